"""Plans how a model is built and served, from its spec and its facts, each choice with its reason.

Mode, engine and quantization are `decision`'s; in mode Dynamic vLLM has room for adapters beside the base. With vLLM
and known kinds of GPU the sizing chooses among them; where none is known, the tensor-parallel size is the one that the
spec asks for, or 1, and must pass every rule of `tensor_parallel`. The context length is the one asked for, or the
model's own limit, which llama.cpp, whose cache is the host's memory, does not take beyond LLAMA_CPP_CONTEXT by itself.

The operator and `ftm plan` call the same `plan`, so that both say the same of the same model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ftm_jobs.contract.byte_counts import format_gib
from ftm_jobs.contract.facts import BaseFacts, Facts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec, Plan
from ftm_operator.planning.decision import Decision, decide, mode_reason
from ftm_operator.planning.gpu_plan import decision_for, gpu_plan
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.model.architecture import DEFAULT_MAX_CONTEXT, architecture
from ftm_operator.planning.rules.context_length import context_length
from ftm_operator.planning.rules.placement import NOT_IN_FLOAT16
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.tensor_parallel import first_rejection, split_of, valid_sizes
from ftm_operator.planning.rules.unmerged_adapters import served_unmerged
from ftm_operator.planning.sizing.adapter_room import AdapterRoom, adapter_room
from ftm_operator.planning.sizing.outcome import Sizing
from ftm_operator.planning.sizing.request import DEFAULT_ENGINE, KnownEngine
from ftm_operator.planning.sizing.spec_sizing import Offer, size_spec

ENGINE_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""vLLM's names by safetensors' names."""

UNSIZED = "not sized: no kind of GPU is known, neither from nodes or their drivers nor by declaration"
LLAMA_CPP_CONTEXT = 8192
LLAMA_CPP_CONCURRENCY = 4


@dataclass(frozen=True)
class Planned:
    """A plan as status shows it, with the decision that says what is built."""

    plan: Plan
    decision: Decision
    sizing: Sizing | None = field(default=None, compare=False)
    """The choice of GPUs that the plan was written from; None where no kind of GPU was known, or on CPUs."""


def plan(
    name: str,
    spec: FineTunedModelSpec,
    facts: Facts,
    classes: Sequence[AcceleratorClass] = (),
    *,
    several_nodes: bool = True,
    engine: KnownEngine = DEFAULT_ENGINE,
) -> Planned | Rejection:
    """Returns how to build and serve the model, or the first rule that forbids what the spec asks for.

    `classes`: the GPUs that exist. `several_nodes`: whether a replica may be spread over nodes. `engine`: its
    version, what was measured of the same model, and the adapters beside the spec's own. Where no layout holds the
    model, the Rejection is NothingFits.
    """
    decision = decide(spec, facts.base, spec.serving.tensor_parallel_size or 1)
    if isinstance(decision, Rejection):
        return decision
    room = _room(spec, facts, decision, engine)
    if isinstance(room, Rejection):
        return room
    by_claim = spec.serving.accelerator.allocation == "DynamicResources"
    if decision.engine != "vLLM" or not (classes or by_claim):
        return _plan_without_gpus_known(name, spec, facts, decision, room)
    sizing = size_spec(spec, facts.base, decision.awq, Offer(tuple(classes), several_nodes, engine, room))
    if isinstance(sizing, Rejection):
        return sizing
    decision = decision_for(decision, sizing)
    return Planned(gpu_plan(name, spec, decision, sizing, mode_reason(spec, facts.adapters)), decision, sizing)


def again(spec: FineTunedModelSpec, facts: Facts, earlier: Plan) -> Planned | None:
    """Returns a plan that was made before from the same spec and base, with its decision.

    Returns None where it does not hold any more: in mode Dynamic the spec's adapters come and go.
    """
    decision = decide(spec, facts.base, earlier.tensor_parallel_size or 1)
    if isinstance(decision, Rejection):
        return None
    room = _room(spec, facts, decision, DEFAULT_ENGINE)
    if isinstance(room, Rejection) or (room and not holds_rank(earlier, room.max_rank)):
        return None
    if decision.awq and earlier.group_size:
        decision = replace(decision, awq=replace(decision.awq, group_size=earlier.group_size))
    return Planned(earlier, decision)


def holds_rank(plan: Plan, rank: int) -> bool:
    """Returns whether the engines of a plan take adapters of that rank."""
    return plan.adapters is not None and rank <= plan.adapters.max_rank


def _room(
    spec: FineTunedModelSpec, facts: Facts, decision: Decision, engine: KnownEngine
) -> AdapterRoom | Rejection | None:
    """Returns the room for adapters of an engine that takes them at run time, or why one cannot be served so."""
    if decision.merges or decision.engine != "vLLM":
        return None
    return served_unmerged(spec, facts.adapters) or adapter_room(spec, facts, engine.adapters)


def _plan_without_gpus_known(
    name: str, spec: FineTunedModelSpec, facts: Facts, decision: Decision, room: AdapterRoom | None
) -> Planned | Rejection:
    serving, on_gpus, size = spec.serving, decision.engine == "vLLM", spec.serving.tensor_parallel_size or 1
    base, slots = facts.base, room.slots[0] if room else 0
    if forbidden := _forbidden(spec, base, decision):
        return forbidden
    context, why_context = _context(spec, base, on_gpus=on_gpus)
    dtype, why_dtype = _dtype(spec, base, decision)
    awq = decision.awq
    plan = Plan(
        mode=decision.mode,
        adapters=room.planned(slots) if room else None,
        engine=decision.engine,
        quantization=decision.quantization,
        group_size=awq.group_size if awq else None,
        quantizer=awq.engine if awq else None,
        dtype=dtype if on_gpus else None,
        max_model_len=context,
        concurrency=None if on_gpus else serving.concurrency or LLAMA_CPP_CONCURRENCY,
        tensor_parallel_size=size if on_gpus else None,
        accelerator=serving.accelerator.resource if on_gpus else None,
        gpus=size if on_gpus else 0,
        served_model_name=serving.served_model_name or name,
        reasons=(
            mode_reason(spec, facts.adapters),
            *decision.reasons,
            _weights(base, size),
            *((UNSIZED, _tensor_parallel(spec, base, size), f"dtype {dtype}: {why_dtype}") if on_gpus else ()),
            f"context {context} tokens: {why_context}",
            *(room.reasons(slots) if room else ()),
        ),
    )
    return Planned(plan, decision)


def _forbidden(spec: FineTunedModelSpec, base: BaseFacts, decision: Decision) -> Rejection | None:
    serving, asked = spec.serving, spec.serving.tensor_parallel_size or 1
    if decision.engine != "vLLM" and serving.tensor_parallel_size:
        return Rejection(
            "TensorParallelSize",
            f"spec.serving.tensorParallelSize {asked}: llama.cpp is served on CPUs and splits nothing; remove it",
        )
    if decision.engine == "vLLM" and (broken := _broken_rule(base, asked, decision)):
        return broken
    return context_length(serving.max_model_len, base.max_position_embeddings or DEFAULT_MAX_CONTEXT)


def _broken_rule(base: BaseFacts, size: int, decision: Decision) -> Rejection | None:
    model = architecture(base)
    scheme = decision.awq.scheme() if decision.awq else model.quantization
    if broken := first_rejection(split_of(model, size, scheme)):
        sizes = ", ".join(map(str, valid_sizes(model, scheme)))
        return Rejection(
            broken.rule,
            f"spec.serving.tensorParallelSize {size}: {broken.reason}; valid sizes for this model are {sizes}",
        )
    return None


def _context(spec: FineTunedModelSpec, base: BaseFacts, *, on_gpus: bool) -> tuple[int, str]:
    if asked := spec.serving.max_model_len:
        return asked, "from spec.serving.maxModelLen"
    limit = base.max_position_embeddings or DEFAULT_MAX_CONTEXT
    if on_gpus or limit <= LLAMA_CPP_CONTEXT:
        return limit, "the model's own limit"
    return (
        LLAMA_CPP_CONTEXT,
        f"llama.cpp's default here, of the model's {limit}; spec.serving.maxModelLen asks for more",
    )


def _dtype(spec: FineTunedModelSpec, base: BaseFacts, decision: Decision) -> tuple[str, str]:
    if spec.serving.dtype != "auto":
        return spec.serving.dtype, "from spec.serving.dtype"
    if decision.awq and base.model_type not in NOT_IN_FLOAT16:
        return "float16", "what AWQ's kernels compute in on every GPU"
    return ENGINE_DTYPES.get(base.dtype, "auto"), "the weights' own"


def _weights(base: BaseFacts, size: int) -> str:
    split = f", {format_gib(base.weight_bytes / size)} on each of {size} GPUs" if size > 1 else ""
    return f"{format_gib(base.weight_bytes)} of {base.dtype} weights, {base.parameters:,} parameters{split}"


def _tensor_parallel(spec: FineTunedModelSpec, base: BaseFacts, size: int) -> str:
    why = "from spec.serving.tensorParallelSize" if spec.serving.tensor_parallel_size else "the default"
    heads = f"{base.attention_heads} attention and {base.key_value_heads} key-value heads divide by it"
    return f"tensor-parallel size {size}: {why}; {heads}"
