"""Builds the InferencePool of a served model's pods, for which an endpoint picker of the platform picks.

Source: sigs.k8s.io/gateway-api-inference-extension, api/v1.
"""

from collections.abc import Mapping

from ftm_operator.api.spec.gateway import EndpointPicker
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.conventions import PORT
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import serving_labels

KIND = "InferencePool"
GROUP = "inference.networking.k8s.io"
API_VERSION = f"{GROUP}/v1"
PLURAL = "inferencepools"


def inference_pool(model: FineTunedModel, plan: Plan, picker: EndpointPicker, selector: Mapping[str, str]) -> Manifest:
    """Returns the pool of the pods that the selector finds."""
    reference = {"name": picker.name, "port": {"number": picker.port}, "failureMode": picker.failure_mode}
    return with_spec_hash(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {
                "selector": {"matchLabels": dict(selector)},
                "targetPorts": [{"number": PORT}],
                "endpointPickerRef": reference,
            },
        }
    )
