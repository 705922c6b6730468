"""What both engines' containers agree on with the Deployment, the Service and `ftm run`."""

from typing import Any

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.metadata import Manifest

PORT = 8000
MODEL_DIRECTORY = "/model"
SHUTDOWN_SECONDS = 45
API_KEY = "VLLM_API_KEY"
"""The key in the Secret that spec.serving.apiKeySecretName names, whichever engine asks for it."""


def environment(model: FineTunedModel, own: dict[str, Any], api_key: str) -> list[Manifest]:
    """The engine's own variables, the API key under the engine's name for it, then the user's, which win."""
    serving = model.spec.serving
    found: list[Manifest] = [
        {"name": name, **({"value": value} if isinstance(value, str) else {"valueFrom": value})}
        for name, value in own.items()
    ]
    if serving.api_key_secret_name:
        reference = {"name": serving.api_key_secret_name, "key": API_KEY}
        found.append({"name": api_key, "valueFrom": {"secretKeyRef": reference}})
    users: list[Manifest] = [variable.to_json() for variable in serving.env]
    names = {variable["name"] for variable in users}
    return [*(variable for variable in found if variable["name"] not in names), *users]
