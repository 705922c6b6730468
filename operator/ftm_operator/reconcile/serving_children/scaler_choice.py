"""Chooses what scales a model, by what the cluster serves, or says what to install. Pure."""

from ftm_operator.api.spec.autoscaling import Autoscaling
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.engines import llama_server
from ftm_operator.engines.metrics import LOAD_METRICS
from ftm_operator.reconcile.passes import Context
from ftm_operator.resources.scaling import horizontal_pod_autoscaler, scaled_object
from ftm_operator.resources.scaling.load import Metric, load
from ftm_operator.resources.scaling.scaler import Scaler

RESOURCE_METRICS = "metrics.k8s.io"
"""The API group of metrics-server, which tells of processors."""
CUSTOM_METRICS = "custom.metrics.k8s.io"
"""The API group of adapters, which tell of what pods themselves export."""
KEDA = "install KEDA (its CRDs and operator)"


def choose_scaler(context: Context, plan: Plan, asked: Autoscaling) -> Scaler | str:
    """Returns the scaler, or a sentence that says why there is none and what to do."""
    served, prometheus = context.observed.served_apis, asked.prometheus or context.settings.prometheus
    has_keda = scaled_object.KIND in served
    if refusal := _refused_metric(plan, asked):
        return refusal
    if asked.min_replicas == 0 and not has_keda:
        return f"minReplicas 0 takes KEDA, since a HorizontalPodAutoscaler keeps one replica: {KEDA}, or set it to 1"
    if asked.min_replicas == 0 and not prometheus:
        return f"minReplicas 0 takes a Prometheus, which tells that no replica is in use: {_prometheus()}"
    if asked.metric != "CPU":
        metric: Metric = "Requests" if asked.metric == "Auto" else asked.metric
        followed = load(context.model, plan, metric)
        if has_keda and prometheus:
            return Scaler(scaled_object.KIND, followed, prometheus)
        if CUSTOM_METRICS in served:
            return Scaler(horizontal_pod_autoscaler.KIND, followed)
    if _may_follow_processors(plan, asked) and RESOURCE_METRICS in served:
        kind = scaled_object.KIND if has_keda else horizontal_pod_autoscaler.KIND
        return Scaler(kind, load(context.model, plan, "CPU"), prometheus)
    return _missing(plan, asked, has_keda=has_keda)


def _refused_metric(plan: Plan, asked: Autoscaling) -> str | None:
    if asked.metric == "CPU" and plan.engine != llama_server.ENGINE:
        return (
            f"metric CPU says nothing of {plan.engine}'s load: set metric to Requests, WaitingRequests or KVCacheUsage"
        )
    if asked.metric == "KVCacheUsage" and LOAD_METRICS[str(plan.engine)].kv_cache_usage is None:
        return f"{plan.engine} exports no KV cache usage: set metric to Requests or WaitingRequests"
    return None


def _missing(plan: Plan, asked: Autoscaling, *, has_keda: bool) -> str:
    """Returns what is to be installed or set so that something scales."""
    server = "metrics-server, which serves metrics.k8s.io"
    if asked.metric == "CPU":
        return f"nothing here tells of processors: install {server}"
    cpu = f", or {server}, for metric CPU" if _may_follow_processors(plan, asked) else ""
    if has_keda:
        return f"KEDA reads the engine's metrics from a Prometheus: {_prometheus()}{cpu and f'; or install {server}'}"
    adapter = f"an adapter that serves {CUSTOM_METRICS}, as prometheus-adapter does"
    return f"nothing here scales by the engine's metrics: {KEDA} and a Prometheus, or {adapter}{cpu}"


def _may_follow_processors(plan: Plan, asked: Autoscaling) -> bool:
    return asked.metric in ("Auto", "CPU") and plan.engine == llama_server.ENGINE


def _prometheus() -> str:
    return "set spec.serving.autoscaling.prometheus, or the chart's autoscaling.prometheus"
