"""The Service in front of a served model: port 80 to the engine's port."""

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.deployment import selector
from ftm_operator.resources.metadata import Manifest, labels, metadata, with_spec_hash

PORT = 80


def service(model: FineTunedModel) -> Manifest:
    """Returns the Service."""
    return with_spec_hash(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(model, model.metadata.name, labels(model, "vllm", "serve")),
            "spec": {
                "type": "ClusterIP",
                "selector": selector(model),
                "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
            },
        }
    )


def endpoint(model: FineTunedModel) -> str:
    """Returns the OpenAI-compatible base URL inside the cluster."""
    return f"http://{model.metadata.name}.{model.metadata.namespace}.svc/v1"
