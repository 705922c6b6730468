"""The status of a FineTunedModel: what the operator observed and decided. Written by the operator alone.

An operator must read what an older or newer one wrote: unknown fields are ignored, and `readable` leaves out what has
another meaning now, so that it is observed again.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.verification import Verification
from ftm_operator.api.schema import MapList, Tolerant

Phase = Literal["Inspecting", "Merging", "Quantizing", "Verifying", "Deploying", "Ready", "Failed", "Suspended"]
MOST_REJECTED = 32
ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Tolerant):
    """One observation, as kstatus reads it: Stalled and Reconciling exist only while they are True."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """What is observed: Ready, Reconciling or Stalled."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the resource that this condition was observed at."""
    last_transition_time: AwareDatetime
    """When `status` last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one CamelCase word; the reason of the Event as well."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, in one sentence: what was found, where, and what to do."""


class Sources(Tolerant):
    """The inputs that `facts` were learned from."""

    input_hash: str | None = None
    """A hash of the sources' URIs, their order, and the annotation ftm.dev/refresh."""


class RejectedSize(Tolerant):
    """A kind of GPU and a size that were not chosen."""

    accelerator: str
    """The kind of GPU."""
    tensor_parallel_size: int
    """Over how many of them, within a node."""
    pipeline_parallel_size: int | None = None
    """And in how many stages."""
    rule: str
    """What it breaks, in one CamelCase word."""
    reason: str
    """Why, with the numbers."""


class Measured(Tolerant):
    """What vLLM said of a GPU's memory when it started under this plan; of several ranks, the one that holds most."""

    weight_bytes: int | None = None
    """What loading the weights took, in bytes."""
    kv_cache_bytes: int | None = None
    """What was left for the KV cache, in bytes."""
    kv_cache_tokens: int | None = None
    """How many tokens of requests that holds."""
    max_concurrency: float | None = None
    """How many requests of the whole context that holds at once."""
    input_hash: str | None = None
    """A hash of the pod template that the measured engine ran from."""


class Shortage(Tolerant):
    """A start that vLLM gave up for lack of memory, and which this plan answers."""

    accelerator_class: str
    """The kind of GPU."""
    tensor_parallel_size: int
    """Over how many of them each layer was split."""
    pipeline_parallel_size: int
    """In how many stages the layers were."""
    planned_bytes: int
    """What was planned for the KV cache of each GPU, in bytes."""
    found_bytes: int | None = None
    """What vLLM found for it, in bytes; absent if it did not say."""
    correction_bytes: int
    """How much more than estimated is held by a plan of these sizes, in bytes."""


class Plan(Tolerant):
    """What the operator decided from the facts and the spec."""

    mode: str | None = None
    """How the adapters are applied: Merged."""
    engine: str | None = None
    """What serves the model: vLLM or LlamaCpp."""
    quantization: str | None = None
    """How the weights are quantized: AWQ, GGUF with its type, or None, if they are served as they were merged."""
    group_size: int | None = None
    """How many weights share a scale, at most; with AWQ."""
    quantizer: str | None = None
    """What makes the AWQ weights: autoawq or llm-compressor."""
    dtype: str | None = None
    """The dtype that vLLM computes in."""
    max_model_len: int | None = None
    """The longest context the engine accepts, prompt and answer together, in tokens."""
    concurrency: int | None = None
    """How many requests of the whole context a replica holds at once."""
    tensor_parallel_size: int | None = None
    """Over how many accelerators each layer is split."""
    pipeline_parallel_size: int | None = None
    """In how many stages the layers are, if in more than one."""
    nodes: int | None = None
    """Over how many nodes a replica is spread, if over more than one."""
    accelerator: str | None = None
    """The extended resource that each replica asks for; absent on CPU."""
    accelerator_class: str | None = None
    """The kind of GPU that was chosen; absent where none is known."""
    gpus: int | None = None
    """How many accelerators one replica asks for; 0 on CPU."""
    device_selector: str | None = None
    """Which devices a ResourceClaim takes, in CEL; absent where GPUs are an extended resource."""
    node_selector: dict[str, str] | None = None
    """The labels of the nodes that have that kind of GPU."""
    gpu_memory_utilization: float | None = None
    """The share of a GPU's memory that vLLM takes."""
    max_num_batched_tokens: int | None = None
    """How many tokens vLLM computes in one step, at most."""
    max_num_seqs: int | None = None
    """How many requests vLLM computes in one step, at most."""
    kv_cache_tokens: int | None = None
    """How many tokens of requests a replica holds, by the estimate."""
    memory: dict[str, int] | None = None
    """What takes the memory of the GPU that holds most, in bytes by item."""
    host: dict[str, str] | None = None
    """What the engine's container asks of its node: cpu, memory and sharedMemory."""
    served_model_name: str | None = None
    """What requests call the model."""
    reasons: tuple[str, ...] = ()
    """Why each of these was chosen, one sentence each."""
    rejected: Annotated[tuple[RejectedSize, ...], Field(max_length=MOST_REJECTED)] | None = None
    """What was not chosen, and why."""
    measured: Measured | None = None
    """What the engine said of its memory when it started."""
    shortage: Shortage | None = None
    """The failed start of the engine under the plan before this one; this plan leaves more memory because of it."""
    input_hash: str | None = None
    """A hash of the facts and of the fields of the spec that the plan was made from; while it is the same, the plan is
    kept."""


class Artifacts(Tolerant):
    """What was built and can be used again."""

    merged: Artifact | None = None
    """The base with the adapters merged into it."""
    quantized: Artifact | None = None
    """What was quantized from that."""
    quantized_input_hash: str | None = None
    """A hash of the merged model and of the settings that it was quantized with."""
    notes: Annotated[tuple[str, ...], Field(max_length=64)] | None = None
    """What the quantizer says of its result: tensors that fell back to other types, widths that were padded."""
    report: Artifact | None = None
    """The verification's figures and its page for people."""
    verified_input_hash: str | None = None
    """A hash of the models that were verified and of the settings that they were measured with."""
    verification: Verification | None = None
    """Whether what is served says what was trained, figure by figure."""


class FineTunedModelStatus(Tolerant):
    """What the operator observed and decided."""

    observed_generation: Annotated[int, Field(ge=-1)] = -1
    """The generation of the spec that this status describes; -1 until the operator has seen the resource."""
    phase: Phase | None = None
    """A summary of the conditions for people; programs read the conditions."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), MapList("type")] = ()
    """Ready is always there once the operator has seen the resource; Reconciling and Stalled while they are True."""
    sources: Sources | None = None
    """Which inputs the facts describe."""
    facts: Facts | None = None
    """What the inspect step learned from configs and safetensors headers."""
    plan: Plan | None = None
    """How the model is built and served, and why."""
    artifacts: Artifacts | None = None
    """What has been built."""
    endpoint: str | None = None
    """The OpenAI-compatible base URL inside the cluster."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """How many serving pods exist."""
    ready_replicas: Annotated[int, Field(ge=0)] | None = None
    """How many serving pods answer requests."""
    selector: str | None = None
    """The label selector of the serving pods, for the scale subresource."""


FORMER_NAMES = (
    (("sources",), "hash", "inputHash"),
    (("plan",), "by", "inputHash"),
    (("plan", "measured"), "by", "inputHash"),
    (("artifacts",), "quantizedBy", "quantizedInputHash"),
    (("artifacts",), "verifiedBy", "verifiedInputHash"),
)
"""Where a field is, its name in a status that an earlier version wrote, and its name now. The CRD declares the former
names as well: an API server prunes a stored field that its schema does not have before anyone can read it."""


def readable(status: Any) -> Any:
    """Returns a stored status with today's names, without the fields that this version cannot read."""
    if not isinstance(status, dict):
        return status
    for place, former, name in FORMER_NAMES:
        status = _renamed(status, place, former, name)
    try:
        FineTunedModelStatus.model_validate(status)
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
