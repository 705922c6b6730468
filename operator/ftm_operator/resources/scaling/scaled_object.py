"""Builds KEDA's ScaledObject, which scales by a Prometheus, and to zero. Source: keda.sh, v2."""

from ftm_operator.api.spec.autoscaling import Autoscaling, ScalingTrigger
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines import llama_server
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.scaling.load import ReplicaLoad, activity_query, load_query, series_of
from ftm_operator.resources.scaling.target import behavior, target_reference
from ftm_operator.resources.serving.serving_labels import serving_labels

KIND = "ScaledObject"
API_VERSION = "keda.sh/v1alpha1"
PLURAL = "scaledobjects"
NEVER_SCALES = 1_000_000_000
"""A target that no load exceeds: its trigger tells that replicas are in use, and asks for no second one."""
START_MARGIN_SECONDS = 60
"""KEDA asks every 30 seconds for what Prometheus mostly scrapes every 30 seconds."""


def scaled_object(
    model: FineTunedModel,
    plan: Plan,
    asked: Autoscaling,
    followed: ReplicaLoad,
    prometheus: str | None,
    start_seconds: int,
) -> Manifest:
    """Returns the ScaledObject. `start_seconds` is how long a replica takes until it answers."""
    to_zero = asked.min_replicas == 0
    cooldown = max(asked.cooldown_seconds, start_seconds + START_MARGIN_SECONDS)
    waits = {"cooldownPeriod": cooldown, "initialCooldownPeriod": cooldown} if to_zero else {}
    series = series_of(model, plan)
    triggers = [
        _cpu(followed) if followed.metric == "CPU" else _prometheus(load_query(followed, series), followed, prometheus),
        *([_activity(activity_query(followed.names, series), prometheus)] if to_zero else []),
        *map(_written, asked.triggers),
    ]
    return with_spec_hash(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {
                "scaleTargetRef": target_reference(model, plan),
                "minReplicaCount": asked.min_replicas,
                "maxReplicaCount": asked.max_replicas,
                **waits,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior(asked)}},
                "triggers": triggers,
            },
        }
    )


def _prometheus(query: str, followed: ReplicaLoad, server: str | None) -> Manifest:
    settings = {"serverAddress": str(server), "query": query, "threshold": str(followed.target)}
    return {"type": "prometheus", "metricType": "Value", "metadata": settings}


def _activity(query: str, server: str | None) -> Manifest:
    settings = {"serverAddress": str(server), "query": query, "threshold": str(NEVER_SCALES)}
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": settings}


def _cpu(followed: ReplicaLoad) -> Manifest:
    settings = {"value": str(followed.target), "containerName": llama_server.NAME}
    return {"type": "cpu", "metricType": "Utilization", "metadata": settings}


def _written(trigger: ScalingTrigger) -> Manifest:
    return trigger.to_json()
