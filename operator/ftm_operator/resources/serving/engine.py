"""Builds what both engines' containers share: the weights and their mount, the environment, the last words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftm_jobs.contract.facts import BaseFacts, Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.conventions import MODEL_DIRECTORY
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import container
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument, artifact_source

API_KEY = "VLLM_API_KEY"
"""The key in the Secret that spec.serving.apiKeySecretName names, whichever engine asks for it."""
LEFT_REPLICAS = "ftm.dev/replicas-left"
"""Annotates a child whose number of replicas others set: by spec.serving.autoscaling, or in the place of the number
that spec.serving.replicas had then."""
MODEL_VOLUME: Manifest = {"name": "model", "emptyDir": {}}
MODEL_MOUNT: Manifest = {"name": "model", "mountPath": MODEL_DIRECTORY}


@dataclass(frozen=True)
class ServedWeights:
    """The files that an engine serves: an artifact, or a base as it is stored."""

    flag: Literal["--artifact", "--base"]
    """The fetch container's argument for them."""
    source: SourceArgument
    """Their place, held to their digest, and its Secret."""
    total_bytes: int
    image: str | None = None
    """The OCI image, by its digest, that is mounted in the place of files that are fetched."""
    streamed: bool = False
    """The engine reads the weights from their place by itself; what lies beside them is fetched."""

    @property
    def digest(self) -> str:
        return str(self.source.digest)


def built_weights(
    artifact: Artifact, store: SourceArgument, *, image: str | None = None, streamed: bool = False
) -> ServedWeights:
    """Returns the weights that a step made, and how they come to the engine, if they are not fetched."""
    source = artifact_source(artifact, store, store.role)
    return ServedWeights("--artifact", source, artifact.total_bytes, image, streamed)


def stored_weights(model: FineTunedModel, base: BaseFacts) -> ServedWeights:
    """Returns the base's weights, as they were when it was inspected."""
    source = SourceArgument("base", base.uri, model.spec.base.secret_name, base.digest)
    return ServedWeights("--base", source, base.weight_bytes)


@dataclass(frozen=True)
class ReplicaCount:
    """The number of replicas that an apply sets, if it sets one."""

    number: int | None
    """None: others set it."""
    left_to: str | None = None
    """The value of the annotation LEFT_REPLICAS."""


@dataclass(frozen=True)
class ServedModel:
    """Everything that a serving child is made from."""

    model: FineTunedModel
    plan: Plan
    facts: Facts
    weights: ServedWeights
    store: SourceArgument
    """The artifact store, from which adapters are fetched that are served beside the weights."""
    replicas: ReplicaCount | None = None
    """The number of replicas and who sets it; None: spec.serving.replicas."""
    reference: Artifact | None = None
    """The figures that the engine is held against; None where it is not."""
    started_with: tuple[Artifact, ...] = ()
    """The adapters that llama.cpp holds beside the weights from its start, in the spec's order."""

    @property
    def takes_adapters(self) -> bool:
        """Tells whether adapters are loaded while the engine serves."""
        return self.plan.adapters is not None

    @property
    def count(self) -> ReplicaCount:
        """The number of replicas, and who sets it."""
        return self.replicas or ReplicaCount(self.model.spec.serving.replicas)

    @property
    def replica_fields(self) -> Manifest:
        """The field of a child's spec that has the number of replicas; none where others set it."""
        return {} if self.count.number is None else {"replicas": self.count.number}

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
