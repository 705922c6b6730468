"""Holds FineTunedModel, ftm.dev/v1alpha1, as an API server returns it, with its columns in kubectl.

The spec is in spec/, the status in status.py; everything that other packages need is named here.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from ftm_operator.api.schema import Resource, Tolerant, matches
from ftm_operator.api.spec.jobs import Jobs
from ftm_operator.api.spec.kubernetes_fields import (
    EnvVar,
    EnvVarSource,
    ResourceRequirements,
    SecretKeySelector,
    Toleration,
)
from ftm_operator.api.spec.model_spec import FineTunedModelSpec
from ftm_operator.api.spec.quantization import AWQ, GGUF, Quantization
from ftm_operator.api.spec.serving import Accelerator, ServingSpec
from ftm_operator.api.spec.sources import Adapter, ArtifactStore, Base, Calibration
from ftm_operator.api.spec.verification import Message, Prompt, VerificationSpec
from ftm_operator.api.status import (
    MOST_NOTES,
    MOST_REJECTED,
    Artifacts,
    CanaryProgress,
    CanaryState,
    Condition,
    ConditionStatus,
    FineTunedModelStatus,
    Measured,
    Phase,
    Plan,
    PlannedAdapters,
    RejectedSize,
    Shortage,
    Sources,
    Start,
    Version,
    VersionState,
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
    "MOST_NOTES",
    "MOST_REJECTED",
    "PLURAL",
    "PROMOTE_ANNOTATION",
    "REFRESH_ANNOTATION",
    "SCALE",
    "SERVE_VERSION_ANNOTATION",
    "SHORT_NAMES",
    "VERSION",
    "Accelerator",
    "Adapter",
    "ArtifactStore",
    "Artifacts",
    "Base",
    "Calibration",
    "CanaryProgress",
    "CanaryState",
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
    "PlannedAdapters",
    "Prompt",
    "Quantization",
    "RejectedSize",
    "ResourceRequirements",
    "SecretKeySelector",
    "ServingSpec",
    "Shortage",
    "Sources",
    "Start",
    "Toleration",
    "VerificationSpec",
    "Version",
    "VersionState",
]

GROUP, VERSION, KIND, PLURAL = "ftm.dev", "v1alpha1", "FineTunedModel", "finetunedmodels"
API_VERSION = f"{GROUP}/{VERSION}"
SHORT_NAMES, CATEGORIES = ("ftm",), ("ai",)
REFRESH_ANNOTATION = f"{GROUP}/refresh"
"""A change of its value resolves the sources again."""
SERVE_VERSION_ANNOTATION = f"{GROUP}/serve-version"
"""The key of the version that is to serve in the place of the one that the spec means, until it is removed."""
PROMOTE_ANNOTATION = f"{GROUP}/promote"
"""A version that is to go on: KEY/STEP ends the pause of this step of a Canary; KEY, with anything else behind a slash,
takes a Canary through all its steps at once, and tries a version again that was rolled back."""


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; wide ones are printed with -o wide only."""

    name: str
    json_path: str
    description: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


COLUMNS = (
    Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is served as its spec says."),
    Column("Phase", ".status.phase", "A summary of the conditions."),
    Column("Quantization", ".status.plan.quantization", "The quantization of the weights."),
    Column("GPUs", ".status.plan.gpus", "Accelerators that one replica asks for.", "integer"),
    Column("Replicas", ".status.readyReplicas", "The number of replicas that answer requests.", "integer"),
    Column("Endpoint", ".status.endpoint", "The OpenAI-compatible base URL inside the cluster."),
    Column("Age", ".metadata.creationTimestamp", "The age of the resource.", "date"),
    Column(
        "Message", '.status.conditions[?(@.type=="Ready")].message', "The reason that it is or is not ready.", wide=True
    ),
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


class OwnerReference(Tolerant):
    """The part of a reference to an owner that is used."""

    uid: str = ""


class ObjectMeta(Tolerant):
    """The part of Kubernetes' own metadata that is used."""

    name: Annotated[str, RESOURCE_NAME]
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
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
    """The model to build, and the way to serve it."""
    status: Annotated[FineTunedModelStatus | None, BeforeValidator(readable)] = None
    """The operator's observations and decisions; nobody else writes them."""

    @property
    def served_model_name(self) -> str:
        return self.spec.serving.served_model_name or self.metadata.name
