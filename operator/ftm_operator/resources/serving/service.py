"""Builds the Service in front of a served model: port 80, or the spec's, to the engine's port."""

from ftm_operator.api.spec.serving_children import ServingService
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import serving_labels

HTTP_PORT = 80


def service(model: FineTunedModel, plan: Plan, selector: dict[str, str]) -> Manifest:
    """Returns the Service of the pods that the selector finds."""
    asked = _asked(model)
    return with_spec_hash(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                **metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
                **({"annotations": dict(asked.annotations)} if asked.annotations else {}),
            },
            "spec": {
                "type": asked.type,
                "selector": selector,
                "ports": [{"name": "http", "port": asked.port, "targetPort": "http", "protocol": "TCP"}],
            },
        }
    )


def endpoint(model: FineTunedModel) -> str:
    """Returns the OpenAI-compatible base URL inside the cluster."""
    port = service_port(model)
    shown = "" if port == HTTP_PORT else f":{port}"
    return f"http://{model.metadata.name}.{model.metadata.namespace}.svc{shown}/v1"


def service_port(model: FineTunedModel) -> int:
    """Returns the port that clients call."""
    return _asked(model).port


def _asked(model: FineTunedModel) -> ServingService:
    return model.spec.serving.service or ServingService()
