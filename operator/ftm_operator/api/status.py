"""Holds the status of a FineTunedModel, which the operator alone writes.

An operator reads the status that an older or newer one wrote: unknown fields are ignored, and `readable` leaves out
those that have another meaning now, so that they are observed again.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.verification import Verification
from ftm_operator.api.schema import MapList, Tolerant

Phase = Literal[
    "Inspecting", "Merging", "Quantizing", "Verifying", "Publishing", "Deploying", "Ready", "Failed", "Suspended"
]
MOST_REJECTED = 32
MOST_NOTES = 64
MOST_VERSIONS = 20
ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Tolerant):
    """One observation, as kstatus reads it: Stalled and Reconciling exist only while they are True."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """The aspect that is observed, such as Ready, Reconciling or Stalled."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the resource that this condition was observed at."""
    last_transition_time: AwareDatetime
    """The time of the last change of `status`."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """The reason in one CamelCase word, which the Event has as well."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """The reason in one sentence: the object, the fault or the progress, and the remedy."""


class Sources(Tolerant):
    """The inputs that `facts` were learned from."""

    input_hash: str | None = None
    """A hash of the sources' URIs, their order, and the annotation ftm.dev/refresh."""
    notes: Annotated[tuple[str, ...], Field(max_length=MOST_NOTES)] | None = None
    """Remarks on the sources: files that a merge leaves out, layers that an adapter promises and does not have."""


class RejectedSize(Tolerant):
    """A kind of GPU and a number of GPUs that were not chosen."""

    accelerator: str
    """The kind of GPU."""
    tensor_parallel_size: int
    """GPUs that each layer would be split over."""
    pipeline_parallel_size: int | None = None
    """Stages that the layers would be in; absent: one."""
    rule: str
    """The rule that it breaks, in one CamelCase word."""
    reason: str
    """The explanation, with the numbers."""


class Measured(Tolerant):
    """The memory that vLLM reported when it started under this plan, for the GPU that holds most."""

    weight_bytes: int | None = None
    """Bytes that the weights took."""
    kv_cache_bytes: int | None = None
    """Bytes that were left for the KV cache."""
    kv_cache_tokens: int | None = None
    """Tokens of requests that the KV cache holds."""
    max_concurrency: float | None = None
    """Requests of the whole context that the KV cache holds at once."""
    input_hash: str | None = None
    """A hash of the pod template that the measured engine ran from."""


class Start(Tolerant):
    """The start of serving Pods, as it was measured."""

    seconds: int
    """Seconds from a Pod's start until it answered."""
    fetch_seconds: int | None = None
    """Seconds in which the weights came to the Pod."""
    load_seconds: int | None = None
    """Seconds in which the engine read the weights; llama-server's warm-up is among them."""
    compile_seconds: int | None = None
    """Seconds in which vLLM compiled the model, or read what was compiled before."""
    warm_up_seconds: int | None = None
    """Seconds in which vLLM measured memory, captured graphs and ran the model for the first time."""
    input_hash: str | None = None
    """A hash of the Pod template that was started."""


VersionState = Literal["Serving", "Canary", "Kept", "RolledBack"]


class Version(Tolerant):
    """A version of what serves: an artifact with the Pods around it."""

    key: str
    """A hash of what its Pods are made from, by which `ftm rollback --to` names it."""
    state: VersionState
    """Serving: it gets the requests. Canary: it gets a share of them. Kept: it served before. RolledBack: it failed as
    a Canary."""
    weight: int | None = None
    """Its share of the Gateway's requests, in percent; absent where it gets none."""
    uri: str | None = None
    """The artifact that it serves, or the base."""
    digest: str | None = None
    """The digest of that."""
    generation: int | None = None
    """The generation of the spec that it was made from."""
    since: AwareDatetime | None = None
    """The time since which it is in this state."""
    message: str | None = None
    """The reason for which it was rolled back."""
    promoted: str | None = None
    """The value of the annotation ftm.dev/promote when it was rolled back. Another one tries it again."""


CanaryState = Literal["Starting", "Sharing", "Replacing", "Leaving"]


class CanaryProgress(Tolerant):
    """The state of a Canary."""

    key: str
    """The key of the new version."""
    step: int
    """The step that it is in, from 0."""
    state: CanaryState
    """Starting: its Pods do not answer yet. Sharing: it gets the step's share of the requests. Replacing: it keeps that
    while it takes the old version's place. Leaving: it gets no requests, and its Pods are about to end."""
    since: AwareDatetime | None = None
    """The time since which it is in this state; of Sharing, since which the Gateway divides requests so, and absent
    until it does."""
    promoted: str | None = None
    """The value of the annotation ftm.dev/promote that was there when the Canary began. Another one lets it go on."""


class Shortage(Tolerant):
    """A start that vLLM gave up for lack of memory."""

    accelerator_class: str
    """The kind of GPU."""
    tensor_parallel_size: int
    """GPUs that each layer was split over."""
    pipeline_parallel_size: int
    """Stages that the layers were in."""
    planned_bytes: int
    """Bytes that were planned for the KV cache of each GPU."""
    found_bytes: int | None = None
    """Bytes that vLLM had left for it; absent if vLLM did not say."""
    correction_bytes: int
    """Bytes that plans of these sizes add to the estimate because of it."""


class PlannedAdapters(Tolerant):
    """The room for adapters that an engine has beside the base."""

    max_rank: int
    """The largest rank of an adapter that it takes."""
    slots: int
    """Adapters that one batch may mix."""
    cpu_slots: int
    """Adapters that are kept in the host's memory."""
    host_bytes: int | None = None
    """Bytes of the host's memory that they take, for each GPU."""


class Plan(Tolerant):
    """The operator's decisions, made from the facts and the spec."""

    mode: str | None = None
    """The way that the adapters are applied: Merged or Dynamic."""
    adapters: PlannedAdapters | None = None
    """The room for adapters beside the base; absent in mode Merged."""
    engine: str | None = None
    """The engine that serves the model: vLLM or LlamaCpp."""
    quantization: str | None = None
    """The quantization of the weights: AWQ, GGUF with its type, or None if they are served as they were merged or
    stored."""
    group_size: int | None = None
    """The most weights that share a scale, with AWQ."""
    quantizer: str | None = None
    """The program that makes the AWQ weights: autoawq or llm-compressor."""
    dtype: str | None = None
    """The dtype that vLLM computes in."""
    max_model_len: int | None = None
    """The longest context the engine accepts, prompt and answer together, in tokens."""
    concurrency: int | None = None
    """Requests of the whole context that a replica holds at once."""
    tensor_parallel_size: int | None = None
    """Accelerators that each layer is split over."""
    pipeline_parallel_size: int | None = None
    """Stages that the layers are in; absent: one."""
    nodes: int | None = None
    """Nodes that a replica spans; absent: one."""
    accelerator: str | None = None
    """The extended resource that each replica asks for; absent on CPU."""
    accelerator_class: str | None = None
    """The kind of GPU that was chosen; absent where none is known."""
    gpus: int | None = None
    """Accelerators that one replica asks for; 0 on CPU."""
    device_selector: str | None = None
    """The devices that a ResourceClaim takes, as a CEL expression; absent where GPUs are an extended resource."""
    node_selector: dict[str, str] | None = None
    """The labels of the nodes that have that kind of GPU."""
    gpu_memory_utilization: float | None = None
    """The share of a GPU's memory that vLLM takes."""
    max_num_batched_tokens: int | None = None
    """The most tokens that vLLM computes in one step."""
    max_num_seqs: int | None = None
    """The most requests that vLLM computes in one step."""
    kv_cache_tokens: int | None = None
    """Tokens of requests that a replica holds, by the estimate."""
    memory: dict[str, int] | None = None
    """Bytes of the GPU that holds most, by item."""
    host: dict[str, str] | None = None
    """Amounts that the engine's container asks of its node: cpu, memory and sharedMemory."""
    served_model_name: str | None = None
    """The model's name in requests."""
    reasons: tuple[str, ...] = ()
    """Reasons for these decisions, one sentence each."""
    rejected: Annotated[tuple[RejectedSize, ...], Field(max_length=MOST_REJECTED)] | None = None
    """Kinds and numbers of GPUs that were not chosen, with reasons."""
    measured: Measured | None = None
    """The memory that the engine reported when it started."""
    shortage: Shortage | None = None
    """The failed start of the engine under the plan before this one; this plan leaves more memory because of it."""
    input_hash: str | None = None
    """A hash of the facts and of the fields of the spec that the plan was made from; while it is the same, the plan is
    kept."""


class Artifacts(Tolerant):
    """The artifacts that are built and can be used again."""

    merged: Artifact | None = None
    """The base with the adapters merged into it."""
    quantized: Artifact | None = None
    """The merged model, quantized."""
    quantized_input_hash: str | None = None
    """A hash of the merged model and of the settings that it was quantized with."""
    notes: Annotated[tuple[str, ...], Field(max_length=MOST_NOTES)] | None = None
    """The quantizer's remarks on its result: tensors that fell back to other types, widths that were padded."""
    report: Artifact | None = None
    """The verification's figures and its page for people."""
    verified_input_hash: str | None = None
    """A hash of the models that were verified and of the settings that they were measured with."""
    verification: Verification | None = None
    """The verdict on the model, figure by figure."""
    reference: Artifact | None = None
    """The figures that an engine is held against once it serves the model."""
    image: str | None = None
    """The artifact that is served as an OCI image: registry/repository@sha256:..."""
    published_input_hash: str | None = None
    """A hash of the artifact that the image holds, and of the place that it was published to."""


class FineTunedModelStatus(Tolerant):
    """The operator's observations and decisions."""

    observed_generation: Annotated[int, Field(ge=-1)] = -1
    """The generation of the spec that this status describes; -1 until the operator has seen the resource."""
    phase: Phase | None = None
    """A summary of the conditions for people; programs read the conditions."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), MapList("type")] = ()
    """Ready is always there once the operator has seen the resource; Reconciling and Stalled while they are True."""
    sources: Sources | None = None
    """The inputs that the facts describe."""
    facts: Facts | None = None
    """Facts that the inspect step learned from configs and safetensors headers."""
    plan: Plan | None = None
    """The way that the model is built and served, with reasons."""
    preview: Plan | None = None
    """The plan of what answers until the merged model does, where spec.preview asks for it."""
    artifacts: Artifacts | None = None
    """The artifacts that are built."""
    endpoint: str | None = None
    """The OpenAI-compatible base URL inside the cluster."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """The number of replicas that exist."""
    ready_replicas: Annotated[int, Field(ge=0)] | None = None
    """The number of replicas that answer requests."""
    start: Start | None = None
    """The start of the present version's Pods, by part; autoscaling waits for longer before it stops the last one."""
    versions: Annotated[tuple[Version, ...], Field(max_length=MOST_VERSIONS), MapList("key")] | None = None
    """The versions that serve, and those that can serve again, the newest first."""
    canary: CanaryProgress | None = None
    """The Canary that goes on."""
    selector: str | None = None
    """The label selector of the serving pods, for the scale subresource."""
    managed_by: str | None = None
    """The operator that writes this status: the namespace and the name of its Deployment."""


FORMER_NAMES = (
    (("sources",), "hash", "inputHash"),
    (("plan",), "by", "inputHash"),
    (("plan", "measured"), "by", "inputHash"),
    (("artifacts",), "quantizedBy", "quantizedInputHash"),
    (("artifacts",), "verifiedBy", "verifiedInputHash"),
)
"""The place of a field, its name in a status that an earlier version wrote, and its name now. The CRD declares the
former names as well: an API server prunes a stored field that its schema does not have before anyone can read it."""


def readable(status: Any) -> Any:
    """Returns a model's stored status with today's names, without the fields that this version cannot read."""
    if not isinstance(status, dict):
        return status
    for place, former, name in FORMER_NAMES:
        status = _renamed(status, place, former, name)
    return without_unreadable(status, FineTunedModelStatus)


def without_unreadable(status: Any, model: type[Tolerant]) -> Any:
    """Returns a stored status without the fields that this version cannot read."""
    if not isinstance(status, dict):
        return status
    try:
        model.model_validate(status)
    except ValidationError as error:
        unreadable = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        return {name: value for name, value in status.items() if name not in unreadable}
    return status


def _renamed(value: Any, place: tuple[str, ...], former: str, name: str) -> Any:
    """Returns a copy in which the object at `place` has its field `former` under `name`, unless it has that as well."""
    if not isinstance(value, dict):
        return value
    if place:
        first, *rest = place
        return {**value, first: _renamed(value[first], tuple(rest), former, name)} if first in value else value
    if former not in value or name in value:
        return value
    return {name if key == former else key: item for key, item in value.items()}
