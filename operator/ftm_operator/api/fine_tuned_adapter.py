"""Holds FineTunedAdapter, ftm.dev/v1alpha1: one adapter of one tenant, served beside the base of a FineTunedModel.

The operator writes one for each of the model's own adapters as well, so that every adapter goes the same way.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ftm_jobs.contract.facts import AdapterFacts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.run_time_adapters import Effect
from ftm_operator.api.schema import ATOMIC_LIST, MapList, Resource, Rule, Tolerant, matches
from ftm_operator.api.spec.kubernetes_fields import DNS_SUBDOMAIN, ObjectName
from ftm_operator.api.spec.served_names import SERVED_NAME
from ftm_operator.api.spec.sources import NO_SECRET_FOR_A_CLAIM, SourceURI
from ftm_operator.api.spec.verification import Prompt
from ftm_operator.api.status import Condition, without_unreadable
from ftm_operator.api.v1alpha1 import Column, ObjectMeta

KIND, PLURAL = "FineTunedAdapter", "finetunedadapters"
SHORT_NAMES, CATEGORIES = ("fta",), ("ai",)
COLUMNS = (
    Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether every serving Pod answers for it."),
    Column("Model", ".spec.model", "The FineTunedModel beside whose base it is served."),
    Column("Served As", ".status.servedName", "The value of `model` in requests for it."),
    Column("Rank", ".status.facts.rank", "The inner width of its matrices.", "integer"),
    Column("Pods", ".status.pods", "The Pods that answer for it, of all that serve."),
    Column("Age", ".metadata.creationTimestamp", "The age of the resource.", "date"),
    Column(
        "Message", '.status.conditions[?(@.type=="Ready")].message', "The reason that it is or is not ready.", wide=True
    ),
)
MOST_NOTES = 16


class AdapterVerification(Resource):
    """The proof that the adapter does what it was trained for, and the consequence when it does not."""

    prompts: Annotated[tuple[Prompt, ...], Field(max_length=8), ATOMIC_LIST] = ()
    """Questions that each engine is asked before the adapter is offered."""
    policy: Literal["Block", "Warn"] = "Block"
    """The consequence of an adapter without effect, or of a wrong answer. Block: it is not offered. Warn: it is, and
    the condition Ready says so."""


class FineTunedAdapterSpec(Resource):
    """The adapter, and the model beside whose base it is served."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    model: Annotated[
        str,
        Field(min_length=1, max_length=253),
        matches(DNS_SUBDOMAIN, "{value} cannot be a FineTunedModel's name; write the name of one in this namespace"),
    ]
    """The name of a FineTunedModel in this namespace whose mode is Dynamic."""
    uri: SourceURI
    """The adapter's directory, with adapter_config.json and adapter_model.safetensors in it: hf://org/name,
    hf://org/name@revision, s3://bucket/prefix or pvc://claim/path. It is resolved once and pinned; change the
    annotation ftm.dev/refresh to resolve it again."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, under the same keys as a FineTunedModel's
    base."""
    served_name: Annotated[str, Field(min_length=1, max_length=128), SERVED_NAME] | None = None
    """The value of `model` in requests for it; absent: the resource's name. Of two that want the same name, the older
    one has it."""
    verification: AdapterVerification = AdapterVerification()
    """The proof that it does what it was trained for."""


class FineTunedAdapterStatus(Tolerant):
    """The operator's observations."""

    observed_generation: Annotated[int, Field(ge=-1)] = -1
    """The generation of the spec that this status describes; -1 until the operator has seen the resource."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), MapList("type")] = ()
    """Ready is always there once the operator has seen the resource; Reconciling and Stalled while they are True."""
    input_hash: str | None = None
    """A hash of the adapter's and the base's sources that `facts` and `artifact` were made from."""
    facts: AdapterFacts | None = None
    """Facts of the adapter, from its config and header: rank, targets, digest."""
    artifact: Artifact | None = None
    """The adapter as engines load it."""
    base_digest: str | None = None
    """The digest of the base that the adapter was checked against; beside another base it is not loaded."""
    engine: str | None = None
    """The engine that `artifact` is for: vLLM or LlamaCpp."""
    served_name: str | None = None
    """The value of `model` in requests for it."""
    endpoint: str | None = None
    """The OpenAI-compatible base URL inside the cluster."""
    pods: str | None = None
    """The Pods that answer for this version, of all that serve, as in 2/3."""
    serving: str | None = None
    """The digest of the version that answers; the former one while another is being loaded."""
    effect: Effect | None = None
    """The smallest change of the base's next-token distribution that an engine measured."""
    notes: Annotated[tuple[str, ...], Field(max_length=MOST_NOTES)] | None = None
    """Remarks on the adapter's files: those that are not read, layers that it promises and does not have."""
    managed_by: str | None = None
    """The operator that writes this status: the namespace and the name of its Deployment."""


def readable(status: Any) -> Any:
    """Returns an adapter's stored status without the fields that this version cannot read."""
    return without_unreadable(status, FineTunedAdapterStatus)


class FineTunedAdapter(Resource):
    """A LoRA adapter, served unmerged beside the base of a FineTunedModel whose mode is Dynamic."""

    api_version: Literal["ftm.dev/v1alpha1"]
    """The API's group and version."""
    kind: Literal["FineTunedAdapter"]
    """The kind of resource."""
    metadata: ObjectMeta
    """Kubernetes' own metadata. The name also names the Jobs: at most 40 characters."""
    spec: FineTunedAdapterSpec
    """The adapter, and the model beside whose base it is served."""
    status: Annotated[FineTunedAdapterStatus | None, BeforeValidator(readable)] = None
    """The operator's observations; nobody else writes them."""

    @property
    def served_name(self) -> str:
        return self.spec.served_name or self.metadata.name


def model_of(item: Mapping[str, Any]) -> str:
    """Returns the name of the model in a stored FineTunedAdapter."""
    return str(item["spec"].get("model"))


def may_share_a_name(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tells whether two stored FineTunedAdapters may be loaded under one name: a version's name is longer by a part."""
    first, second = f"{served_name_of(one)}-", f"{served_name_of(other)}-"
    return first.startswith(second) or second.startswith(first)


def served_name_of(item: Mapping[str, Any]) -> str:
    """Returns the name that a stored FineTunedAdapter asks to be served under."""
    return str(item["spec"].get("servedName") or item["metadata"]["name"])
