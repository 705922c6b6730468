"""Holds the load that the number of replicas follows, and the words that a scaler reads it by.

A replica's load is an average over those that tell of it, so that the number of replicas that are wanted is their
number times load over target, as a HorizontalPodAutoscaler computes it.
"""

from dataclasses import dataclass
from typing import Literal

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.metrics import LOAD_METRICS, LoadMetrics
from ftm_operator.planning.sizing.request import CONCURRENCY
from ftm_operator.resources.serving.leader_worker_set import group_name

Metric = Literal["Requests", "WaitingRequests", "KVCacheUsage", "CPU"]
WAITING_TARGET = 2
PERCENT_TARGET = 80
ACTIVITY_WINDOW = "2m"
"""Two scrapes at the least, at the intervals that are common."""


@dataclass(frozen=True)
class ReplicaLoad:
    """A kind of load, and the amount of it per replica that is aimed at."""

    metric: Metric
    target: int
    """A number of requests, or a percentage."""
    names: LoadMetrics
    """The engine's own metrics."""


def load(model: FineTunedModel, plan: Plan, metric: Metric) -> ReplicaLoad:
    """Returns the load with the target that the spec sets, or the metric's own."""
    asked, planned = model.spec.serving.autoscaling, plan.concurrency or model.spec.serving.concurrency
    defaults = {"Requests": planned or CONCURRENCY, "WaitingRequests": WAITING_TARGET}
    target = (asked.target if asked else None) or defaults.get(metric, PERCENT_TARGET)
    return ReplicaLoad(metric, target, LOAD_METRICS[str(plan.engine)])


def load_query(followed: ReplicaLoad, series: str) -> str:
    """Returns the PromQL of the average load of a replica; KVCacheUsage is a percentage.

    `series` are the labels of the model's series.
    """
    names = followed.names
    running, waiting = f"{names.running}{{{series}}}", f"{names.waiting}{{{series}}}"
    if followed.metric == "KVCacheUsage":
        return f"100 * avg({names.kv_cache_usage}{{{series}}})"
    pods = f"count(count by (pod) ({waiting}))"
    if followed.metric == "WaitingRequests":
        return f"sum({waiting}) / {pods}"
    return f"(sum({running}) + sum({waiting})) / {pods}"


def activity_query(names: LoadMetrics, series: str) -> str:
    """Returns the PromQL of a number above 0 as long as any replica was asked for anything lately."""
    tokens = f"sum(increase({names.tokens}{{{series}}}[{ACTIVITY_WINDOW}]))"
    return f"{tokens} + sum({names.running}{{{series}}}) + sum({names.waiting}{{{series}}})"


def series_of(model: FineTunedModel, plan: Plan, child: str | None = None) -> str:
    """Returns the labels of the model's series: its namespace, and the names that its pods have.

    `child` is the name that pods begin with where it is not the model's own.
    """
    name = child or model.metadata.name
    pods = f"{group_name(name)}-[0-9]+" if plan.nodes else f"{name}-[a-z0-9]+-[a-z0-9]{{5}}"
    return f'namespace="{model.metadata.namespace}",pod=~"{pods}"'
