"""Builds the Service in front of a served model: port 80 to the engine's port."""

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import serving_labels

PORT = 80


def service(model: FineTunedModel, plan: Plan, selector: dict[str, str]) -> Manifest:
    """Returns the Service of the pods that the selector finds."""
    return with_spec_hash(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {
                "type": "ClusterIP",
                "selector": selector,
                "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
            },
        }
    )


def endpoint(model: FineTunedModel) -> str:
    """Returns the OpenAI-compatible base URL inside the cluster."""
    return f"http://{model.metadata.name}.{model.metadata.namespace}.svc/v1"
