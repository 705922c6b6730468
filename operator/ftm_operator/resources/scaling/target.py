"""Builds what both scalers say alike: whom they scale, and how fast replicas go."""

from ftm_operator.api.spec.autoscaling import Autoscaling
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving import leader_worker_set

LONGEST_WINDOW_SECONDS = 3600
"""The longest stabilization that a HorizontalPodAutoscaler takes."""


def target_reference(model: FineTunedModel, plan: Plan) -> Manifest:
    """Returns the child whose replicas are scaled, by its scale subresource."""
    name = model.metadata.name
    if plan.nodes:
        kind, api_version = leader_worker_set.KIND, leader_worker_set.API_VERSION
        return {"apiVersion": api_version, "kind": kind, "name": leader_worker_set.group_name(name)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}


def behavior(asked: Autoscaling) -> Manifest:
    """Returns how replicas go: not before the load was less for the whole cooldown."""
    return {"scaleDown": {"stabilizationWindowSeconds": min(asked.cooldown_seconds, LONGEST_WINDOW_SECONDS)}}
