"""Builds the HorizontalPodAutoscaler of clusters without KEDA, on the metrics that their API servers have."""

from collections.abc import Sequence

from ftm_operator.api.spec.autoscaling import Autoscaling
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines import llama_server
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.scaling.load import ReplicaLoad
from ftm_operator.resources.scaling.target import behavior, target_reference
from ftm_operator.resources.serving.serving_labels import serving_labels

KIND = "HorizontalPodAutoscaler"
API_VERSION = "autoscaling/v2"
PLURAL = "horizontalpodautoscalers"


def horizontal_pod_autoscaler(model: FineTunedModel, plan: Plan, asked: Autoscaling, followed: ReplicaLoad) -> Manifest:
    """Returns the autoscaler. Of several metrics the one that asks for the most replicas counts."""
    return with_spec_hash(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {
                "scaleTargetRef": target_reference(model, plan),
                "minReplicas": asked.min_replicas,
                "maxReplicas": asked.max_replicas,
                "behavior": behavior(asked),
                "metrics": _metrics(followed),
            },
        }
    )


def _metrics(followed: ReplicaLoad) -> Sequence[Manifest]:
    """Returns the metrics; Requests is two, since this API adds none up."""
    names, amount = followed.names, str(followed.target)
    match followed.metric:
        case "CPU":
            target = {"type": "Utilization", "averageUtilization": followed.target}
            resource = {"name": "cpu", "container": llama_server.NAME, "target": target}
            return [{"type": "ContainerResource", "containerResource": resource}]
        case "KVCacheUsage":
            return [_of_pods(str(names.kv_cache_usage), f"{followed.target * 10}m")]
        case "WaitingRequests":
            return [_of_pods(names.waiting, amount)]
        case "Requests":
            return [_of_pods(names.running, amount), _of_pods(names.waiting, amount)]


def _of_pods(metric: str, amount: str) -> Manifest:
    target = {"type": "AverageValue", "averageValue": amount}
    return {"type": "Pods", "pods": {"metric": {"name": metric}, "target": target}}
