"""From a spec and a model's facts to a plan, each choice with its reason.

Mode is Merged: adapters are folded into the weights. Engine and quantization are `decision`'s. With vLLM, the
tensor-parallel size is the one that the spec asks for, or 1, and must pass every rule of `tensor_parallel`; where kinds
of GPU are known, sizing.py chooses among them, and these sizes with it. The context length is the one asked for, or the
model's own limit, which llama.cpp, whose cache is the host's memory, does not take beyond LLAMA_CPP_CONTEXT by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ftm_jobs.contract.facts import BaseFacts, Facts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec, Plan
from ftm_operator.planning.decision import Decision, decide
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.rules.constraints import NOT_IN_FLOAT16
from ftm_operator.planning.rules.tensor_parallel import Rejection, rejections, valid_sizes
from ftm_operator.planning.sized_plan import sized_plan
from ftm_operator.planning.sizing import Correction

ENGINE_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""safetensors' names and vLLM's."""

UNSIZED = "not sized: no kind of GPU is known, neither from nodes or their drivers nor by declaration"
LLAMA_CPP_CONTEXT = 8192
LLAMA_CPP_CONCURRENCY = 4


@dataclass(frozen=True)
class Planned:
    plan: Plan
    """As status shows it."""
    decision: Decision
    """What is built."""


def plan(
    name: str,
    spec: FineTunedModelSpec,
    facts: Facts,
    classes: Sequence[AcceleratorClass] = (),
    *,
    several_nodes: bool = True,
    corrections: Sequence[Correction] = (),
) -> Planned | Rejection:
    """How to build and serve the model, or the first rule that forbids what the spec asks for.

    `classes`: the GPUs that exist. `several_nodes`: whether a replica may be spread over nodes. `corrections`: by what
    was measured of the same model.
    """
    serving, base = spec.serving, facts.base
    size = serving.tensor_parallel_size or 1
    decision = decide(spec, base, size)
    if isinstance(decision, Rejection):
        return decision
    on_gpus = decision.engine == "vLLM"
    if on_gpus and (classes or serving.accelerator.allocation == "DynamicResources"):
        sized = sized_plan(name, spec, facts, classes, decision, several_nodes=several_nodes, corrections=corrections)
        return sized if isinstance(sized, Rejection) else Planned(*sized)
    if forbidden := _forbidden(spec, base, size, on_gpus=on_gpus):
        return forbidden
    context, why_context = _context(spec, base, on_gpus=on_gpus)
    dtype, why_dtype = _dtype(spec, base, decision)
    awq = decision.awq
    found = Plan(
        mode="Merged",
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
            f"Merged: {_adapters(spec)} folded into the weights",
            *decision.reasons,
            _weights(base, size),
            *((UNSIZED, _tensor_parallel(spec, base, size), f"dtype {dtype}: {why_dtype}") if on_gpus else ()),
            f"context {context} tokens: {why_context}",
        ),
    )
    return Planned(found, decision)


def again(spec: FineTunedModelSpec, facts: Facts, known: Plan) -> Planned | None:
    """A plan that was made before from the same, with its decision."""
    decision = decide(spec, facts.base, known.tensor_parallel_size or 1)
    if isinstance(decision, Rejection):
        return None
    if decision.awq and known.group_size:
        decision = replace(decision, awq=replace(decision.awq, group_size=known.group_size))
    return Planned(known, decision)


def _forbidden(spec: FineTunedModelSpec, base: BaseFacts, size: int, *, on_gpus: bool) -> Rejection | None:
    serving = spec.serving
    if not on_gpus and serving.tensor_parallel_size:
        return Rejection(
            "TensorParallelSize",
            f"spec.serving.tensorParallelSize {size}: llama.cpp is served on CPUs and splits nothing; remove it",
        )
    if on_gpus and (broken := rejections(base, size)):
        sizes = ", ".join(map(str, valid_sizes(base)))
        return Rejection(
            broken[0].rule,
            f"spec.serving.tensorParallelSize {size}: {broken[0].reason}; valid sizes for this model are {sizes}",
        )
    if serving.max_model_len and serving.max_model_len > base.max_position_embeddings:
        return Rejection(
            "ContextLength",
            f"spec.serving.maxModelLen {serving.max_model_len} exceeds the model's limit of "
            f"{base.max_position_embeddings} tokens; ask for at most that",
        )
    return None


def _context(spec: FineTunedModelSpec, base: BaseFacts, *, on_gpus: bool) -> tuple[int, str]:
    if asked := spec.serving.max_model_len:
        return asked, "from spec.serving.maxModelLen"
    limit = base.max_position_embeddings
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


def _adapters(spec: FineTunedModelSpec) -> str:
    return f"{len(spec.adapters)} adapter{'s' if len(spec.adapters) > 1 else ''}"


def _weights(base: BaseFacts, size: int) -> str:
    gibibytes = base.weight_bytes / 2**30
    split = f", {gibibytes / size:.2f} GiB on each of {size} GPUs" if size > 1 else ""
    return f"{gibibytes:.2f} GiB of {base.dtype} weights, {base.parameters:,} parameters{split}"


def _tensor_parallel(spec: FineTunedModelSpec, base: BaseFacts, size: int) -> str:
    why = "from spec.serving.tensorParallelSize" if spec.serving.tensor_parallel_size else "the default"
    heads = f"{base.attention_heads} attention and {base.key_value_heads} key-value heads divide"
    return f"tensor-parallel size {size}: {why}; {heads}"
