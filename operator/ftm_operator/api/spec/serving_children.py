"""Holds the settings of what stands around serving Pods: their probes, their Service, their disruption budget."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from ftm_operator.api.schema import Quantity, Resource, Rule, full_match, full_match_cel, matches
from ftm_operator.api.spec.kubernetes_fields import ObjectName, ResourceRequirements
from ftm_operator.api.spec.pod_names import PodAnnotations

PERCENTAGE = r"100%|[1-9]?[0-9]%"
_is_percentage = full_match(PERCENTAGE)

Seconds = Annotated[int, Field(strict=True, ge=1, le=3600)]
Count = Annotated[
    int | str,
    PlainValidator(lambda value: value),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 16}),
    Rule(
        "{value} is no number of replicas; write a whole number or a percentage, as in 1 or '50%'",
        f"type(self) == int ? self >= 0 : {full_match_cel(PERCENTAGE, 'string(self)')}",
        lambda value: _is_percentage(value) if isinstance(value, str) else type(value) is int and value >= 0,
    ),
]
"""A number of replicas, or a share of them."""


class ProbeTimes(Resource):
    """The times of a probe, as in a container's own spec."""

    period_seconds: Seconds | None = None
    """Seconds from one question to the next."""
    timeout_seconds: Seconds | None = None
    """Seconds in which the engine must answer."""
    failure_threshold: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    """Questions in a row that may go unanswered before the probe fails."""


class Probes(Resource):
    """The probes of the engine, which ask for /health."""

    startup_seconds: Annotated[int, Field(strict=True, ge=60, le=86_400)] = 1800
    """Seconds that the engine may take until it answers for the first time, before its container is started again."""
    readiness: ProbeTimes = ProbeTimes()
    """The probe that takes a Pod out of the Service; absent: every 5 s, 5 s to answer, 3 failures."""
    liveness: ProbeTimes = ProbeTimes()
    """The probe that starts the engine again; absent: every 10 s, 10 s to answer, 6 failures."""


class ServingService(Resource):
    """The Service in front of the serving Pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """The way that clients reach it. ClusterIP: from inside the cluster; NodePort: at a port of every node as well;
    LoadBalancer: by an address that the cloud gives it as well."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 80
    """The port that clients call, which is in status.endpoint unless it is 80."""
    annotations: PodAnnotations = Field(default_factory=dict)
    """Annotations of the Service, as a cloud's load balancer reads them."""


class Fetch(Resource):
    """The container that fetches the artifact before the engine starts."""

    resources: ResourceRequirements | None = None
    """Its CPU and memory. A resource that is in neither requests nor limits is the operator's: cpu 100m, memory 256Mi
    and at most 1Gi, and ephemeral-storage for the artifact."""


class NodeCache(Resource):
    """A folder that outlives Pods and that the Pods of a node share."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a cache is in one place; write hostPath or claimName",
            "has(self.hostPath) != has(self.claimName)",
            lambda cache: (cache.host_path is None) != (cache.claim_name is None),
        ),
    )
    host_path: (
        Annotated[
            str,
            Field(min_length=2, max_length=1024),
            matches(
                r"(/[A-Za-z0-9._@+-]*[A-Za-z0-9_@+-])+",
                "{value} is not a folder of a node; write an absolute path without '..', as in /var/cache/ftm",
            ),
        ]
        | None
    ) = None
    """A folder of each node, in which each namespace has one of its own; it is made if it is missing, by a container
    that runs as root. It takes a namespace whose Pod Security level is privileged."""
    claim_name: ObjectName | None = None
    """A PersistentVolumeClaim of this namespace, in the place of the folder; ReadWriteMany where replicas are on
    several nodes."""
    size: Quantity
    """The most that it holds, of each namespace. What was used least recently goes first, never what a Pod uses. What
    does not fit beside that is on the Pod's own disk, as without a cache."""


class DisruptionBudget(Resource):
    """A PodDisruptionBudget for the serving Pods, which draining a node and other evictions keep to."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a budget says one number; write minAvailable or maxUnavailable",
            "has(self.minAvailable) != has(self.maxUnavailable)",
            lambda budget: (budget.min_available is None) != (budget.max_unavailable is None),
        ),
    )
    min_available: Count | None = None
    """Replicas that stay, as a number or a percentage."""
    max_unavailable: Count | None = None
    """Replicas that may be away at once, as a number or a percentage."""
