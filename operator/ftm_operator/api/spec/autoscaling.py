"""Holds the settings by which the number of replicas follows the load."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, Resource, Rule, matches
from ftm_operator.api.spec.kubernetes_fields import ObjectName

PrometheusAddress = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    matches(
        r"https?://[^\s/]+(/[^\s]*)?",
        "{value} is not the address of a Prometheus; write http://HOST:PORT, as in http://prometheus.monitoring:9090",
    ),
]


class TriggerAuthentication(Resource):
    """The credentials of a trigger, as KEDA keeps them."""

    name: ObjectName
    """The name of the TriggerAuthentication."""
    kind: Literal["TriggerAuthentication", "ClusterTriggerAuthentication"] = "TriggerAuthentication"
    """The kind that holds them."""


class ScalingTrigger(Resource):
    """One more trigger of the ScaledObject, as KEDA takes it."""

    type: Annotated[
        str,
        Field(min_length=1, max_length=63),
        matches(r"[a-z0-9-]+", "{value} is not a scaler of KEDA; write its name, as in external-push or prometheus"),
    ]
    """The scaler, as KEDA's documentation names it."""
    metadata: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]],
        Field(max_length=32),
    ] = Field(default_factory=dict)
    """The scaler's settings."""
    metric_type: Literal["AverageValue", "Value", "Utilization"] | None = None
    """The way that the metric is held against its target; absent: KEDA's own."""
    authentication_ref: TriggerAuthentication | None = None
    """The credentials of the trigger; absent: none."""


class Autoscaling(Resource):
    """The bounds of the number of replicas, and the load that it follows."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "minReplicas is above maxReplicas; write the larger number as maxReplicas",
            "self.minReplicas <= self.maxReplicas",
            lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        ),
        Rule(
            "no engine tells of its load while there is no replica; write in triggers what wakes the first one, or set "
            "minReplicas to 1",
            "self.minReplicas > 0 || (has(self.triggers) && size(self.triggers) > 0)",
            lambda scaling: scaling.min_replicas > 0 or bool(scaling.triggers),
        ),
    )
    min_replicas: Annotated[int, Field(strict=True, ge=0, le=1000)] = 1
    """The fewest replicas. 0 takes KEDA, and a trigger that is there while no replica is."""
    max_replicas: Annotated[int, Field(strict=True, ge=1, le=1000)]
    """The most replicas."""
    metric: Literal["Auto", "Requests", "WaitingRequests", "KVCacheUsage", "CPU"] = "Auto"
    """The load of a replica. Requests: those that it holds, in work and waiting. WaitingRequests: those that wait for
    their turn in it. KVCacheUsage: the used share of vLLM's KV cache. CPU: the used share of the processors that
    llama.cpp asks for. Auto: Requests, or CPU where nothing reads the engine's metrics."""
    target: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None
    """The load per replica that is aimed at: a number of requests, or a percentage. Absent: for Requests the plan's
    concurrency, for WaitingRequests 2, for KVCacheUsage and CPU 80."""
    cooldown_seconds: Annotated[int, Field(strict=True, ge=30, le=86_400)] = 300
    """Seconds of less load before replicas go, and of none before the last one goes. The last one stays for longer
    than a start was measured to take, so that none is stopped while it loads."""
    prometheus: PrometheusAddress | None = None
    """The address of the Prometheus that reads the engines' metrics; absent: the installation's."""
    triggers: Annotated[tuple[ScalingTrigger, ...], Field(max_length=8), ATOMIC_LIST] = ()
    """More triggers, as KEDA takes them. One of them wakes the first replica: the queue of what holds requests while
    there is none, as KEDA's HTTP add-on or llm-d's router does."""
