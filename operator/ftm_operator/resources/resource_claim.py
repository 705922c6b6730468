"""Builds the ResourceClaimTemplate by which a replica's pods get their GPUs, where a DRA driver allocates them.

A template cannot change, so its name holds a hash of it: another plan is another template.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import serving_labels

CLAIM = "gpus"
"""The name of the claim in pods and containers."""
PATIENCE = timedelta(seconds=10)
"""The time within which a claim is made for a new pod."""


def claims_devices(plan: Plan) -> bool:
    return plan.device_selector is not None


def name(model: FineTunedModel, plan: Plan) -> str:
    return f"{model.metadata.name}-gpus-{short_hash(_spec(plan), 8)}"


def template(model: FineTunedModel, plan: Plan) -> Manifest:
    """Returns the template of a plan that claims devices; it is deleted with its FineTunedModel."""
    return with_spec_hash(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": metadata(model, name(model, plan), serving_labels(model, plan.engine)),
            "spec": {"spec": _spec(plan)},
        }
    )


def pod_claims(model: FineTunedModel, plan: Plan) -> list[Manifest]:
    """Returns a pod's `resourceClaims`."""
    return [{"name": CLAIM, "resourceClaimTemplateName": name(model, plan)}]


def lacks_claim(pods: Sequence[Manifest], now: datetime) -> bool:
    """Tells whether a pod waits for a claim that nobody makes: its template may have been deleted."""
    return any(
        pod.get("spec", {}).get("resourceClaims")
        and not pod.get("status", {}).get("resourceClaimStatuses")
        and now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) > PATIENCE
        for pod in pods
    )


def _spec(plan: Plan) -> Manifest:
    request = {
        "deviceClassName": plan.accelerator,
        "allocationMode": "ExactCount",
        "count": (plan.gpus or 1) // (plan.nodes or 1),
        "selectors": [{"cel": {"expression": plan.device_selector}}],
    }
    return {"devices": {"requests": [{"name": CLAIM, "exactly": request}]}}
