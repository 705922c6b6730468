"""Builds what both engines' containers share: the artifact's mount, the environment, the last words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.conventions import MODEL_DIRECTORY
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import container
from ftm_operator.settings import Settings

API_KEY = "VLLM_API_KEY"
"""The key in the Secret that spec.serving.apiKeySecretName names, whichever engine asks for it."""
MODEL_VOLUME: Manifest = {"name": "model", "emptyDir": {}}
MODEL_MOUNT: Manifest = {"name": "model", "mountPath": MODEL_DIRECTORY}


@dataclass(frozen=True)
class ServedModel:
    """Everything that a serving child is made from."""

    model: FineTunedModel
    plan: Plan
    facts: Facts
    artifact: Artifact
    """The model that is served."""
    secret_name: str | None
    """The Secret of the artifact store."""

    @property
    def asked_resources(self) -> Mapping[str, Any]:
        """The resources that the spec sets, which replace the plan's."""
        resources = self.model.spec.serving.resources
        return resources.to_json() if resources else {}

    def image(self, installed: str) -> str:
        """Returns the engine's image: the spec's, or the installation's."""
        return self.model.spec.serving.image or installed


def engine_container(name: str, image: str, settings: Settings, mounts: list[Manifest]) -> Manifest:
    """Returns an engine's container without its command, environment and resources."""
    return {
        **container(name, image, settings, mounts=[{**MODEL_MOUNT, "readOnly": True}, *mounts]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def environment(model: FineTunedModel, own: dict[str, Any], api_key: str) -> list[Manifest]:
    """Returns the engine's own variables, and the API key under the engine's name for it."""
    serving = model.spec.serving
    variables: list[Manifest] = [
        {"name": name, **({"value": value} if isinstance(value, str) else {"valueFrom": value})}
        for name, value in own.items()
    ]
    if serving.api_key_secret_name:
        reference = {"name": serving.api_key_secret_name, "key": API_KEY}
        variables.append({"name": api_key, "valueFrom": {"secretKeyRef": reference}})
    return variables
