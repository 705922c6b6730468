"""FineTunedModel, ftm.dev/v1alpha1: the resource as an API server returns it, and how it shows to kubectl.

The spec is in spec.py, the status in status.py; everything that other packages need is named here.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from ftm_operator.api.schema import Resource, Tolerant, matches
from ftm_operator.api.spec import (
    AWQ,
    GGUF,
    Accelerator,
    Adapter,
    ArtifactStore,
    Base,
    Calibration,
    EnvVar,
    EnvVarSource,
    FineTunedModelSpec,
    Jobs,
    Message,
    Prompt,
    Quantization,
    ResourceRequirements,
    SecretKeySelector,
    Serving,
    Toleration,
    Verification,
)
from ftm_operator.api.status import (
    MOST_REJECTED,
    Artifacts,
    Condition,
    ConditionStatus,
    FineTunedModelStatus,
    Measured,
    Phase,
    Plan,
    RejectedSize,
    Shortage,
    Sources,
    readable,
)

__all__ = [
    "API_VERSION",
    "AWQ",
    "CATEGORIES",
    "COLUMNS",
    "GGUF",
    "GROUP",
    "KIND",
    "MOST_REJECTED",
    "PLURAL",
    "REFRESH_ANNOTATION",
    "SCALE",
    "SHORT_NAMES",
    "VERSION",
    "Accelerator",
    "Adapter",
    "ArtifactStore",
    "Artifacts",
    "Base",
    "Calibration",
    "Condition",
    "ConditionStatus",
    "EnvVar",
    "EnvVarSource",
    "FineTunedModel",
    "FineTunedModelSpec",
    "FineTunedModelStatus",
    "Jobs",
    "Measured",
    "Message",
    "ObjectMeta",
    "Phase",
    "Plan",
    "Prompt",
    "Quantization",
    "RejectedSize",
    "ResourceRequirements",
    "SecretKeySelector",
    "Serving",
    "Shortage",
    "Sources",
    "Toleration",
    "Verification",
]

GROUP, VERSION, KIND, PLURAL = "ftm.dev", "v1alpha1", "FineTunedModel", "finetunedmodels"
API_VERSION = f"{GROUP}/{VERSION}"
SHORT_NAMES, CATEGORIES = ("ftm",), ("ai",)
REFRESH_ANNOTATION = f"{GROUP}/refresh"
"""A change of its value resolves the sources again."""


@dataclass(frozen=True)
class Column:
    """What `kubectl get` prints; wide ones only with -o wide."""

    name: str
    json_path: str
    description: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


COLUMNS = (
    Column("Phase", ".status.phase", "A summary of the conditions."),
    Column("Quantization", ".status.plan.quantization", "How the weights are quantized."),
    Column("GPUs", ".status.plan.gpus", "How many accelerators one replica asks for.", "integer"),
    Column("Ready", ".status.readyReplicas", "How many serving pods answer requests.", "integer"),
    Column("Endpoint", ".status.endpoint", "The OpenAI-compatible base URL inside the cluster."),
    Column("Age", ".metadata.creationTimestamp", "When the resource was created.", "date"),
    Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why it is or is not ready.", wide=True),
)
SCALE = {
    "specReplicasPath": ".spec.serving.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}

RESOURCE_NAME = matches(
    r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
    "{value} is too long or not a DNS label; the Service and the Jobs are named after the resource: write at most 40 "
    "lower-case letters, digits and '-', starting with a letter",
)


class ObjectMeta(Tolerant):
    """What is used of Kubernetes' own metadata."""

    name: Annotated[str, RESOURCE_NAME]
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None


class FineTunedModel(Resource):
    """A base model and LoRA adapters, merged and served behind an OpenAI-compatible endpoint."""

    api_version: Literal["ftm.dev/v1alpha1"]
    """The API's group and version."""
    kind: Literal["FineTunedModel"]
    """The kind of resource."""
    metadata: ObjectMeta
    """Kubernetes' own metadata. The name also names the Service and the Jobs: at most 40 characters."""
    spec: FineTunedModelSpec
    """What to build and how to serve it."""
    status: Annotated[FineTunedModelStatus | None, BeforeValidator(readable)] = None
    """What the operator observed and decided; nobody else writes it."""

    @property
    def served_model_name(self) -> str:
        return self.spec.serving.served_model_name or self.metadata.name
