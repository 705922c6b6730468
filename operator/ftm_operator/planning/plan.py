"""From a spec and a model's facts to a plan, each choice with its reason.

Mode is Merged: adapters are folded into the weights. The engine is vLLM with unquantized weights. The
tensor-parallel size is the one that the spec asks for, or 1, and must pass every rule of `tensor_parallel`.
The context length is the one asked for, or the model's own limit. Where kinds of GPU are known, sizing.py chooses
among them, and these sizes with it.
"""

from collections.abc import Sequence

from ftm_jobs.contract import BaseFacts, Facts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec, Plan
from ftm_operator.planning.accelerators import AcceleratorClass
from ftm_operator.planning.sized_plan import sized_plan
from ftm_operator.planning.tensor_parallel import Rejection, rejections, valid_sizes

ENGINE_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""safetensors' names and vLLM's."""


def plan(
    name: str, spec: FineTunedModelSpec, facts: Facts, classes: Sequence[AcceleratorClass] = ()
) -> Plan | Rejection:
    """How to serve the model, or the first rule that forbids what the spec asks for; `classes`: the GPUs that exist."""
    if classes:
        return sized_plan(name, spec, facts, classes)
    serving, base = spec.serving, facts.base
    size = serving.tensor_parallel_size or 1
    if broken := rejections(base, size):
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
    return Plan(
        mode="Merged",
        engine="vLLM",
        quantization="None",
        dtype=_dtype(spec, base),
        max_model_len=serving.max_model_len or base.max_position_embeddings,
        tensor_parallel_size=size,
        accelerator=serving.accelerator.resource,
        gpus=size,
        served_model_name=serving.served_model_name or name,
        reasons=tuple(_reasons(spec, base, size)),
    )


def _dtype(spec: FineTunedModelSpec, base: BaseFacts) -> str:
    return ENGINE_DTYPES.get(base.dtype, "auto") if spec.serving.dtype == "auto" else spec.serving.dtype


def _reasons(spec: FineTunedModelSpec, base: BaseFacts, size: int) -> list[str]:
    serving, adapters = spec.serving, len(spec.adapters)
    weights_gib = base.weight_bytes / 2**30
    return [
        f"Merged: {adapters} adapter{'s' if adapters > 1 else ''} folded into the weights",
        f"{weights_gib:.2f} GiB of {base.dtype} weights, {base.parameters:,} parameters"
        + (f", {weights_gib / size:.2f} GiB on each of {size} GPUs" if size > 1 else ""),
        f"tensor-parallel size {size}: "
        + ("from spec.serving.tensorParallelSize" if serving.tensor_parallel_size else "the default")
        + f"; {base.attention_heads} attention and {base.key_value_heads} key-value heads divide",
        f"dtype {_dtype(spec, base)}: "
        + ("the weights' own" if serving.dtype == "auto" else "from spec.serving.dtype"),
        f"context {serving.max_model_len or base.max_position_embeddings} tokens: "
        + ("from spec.serving.maxModelLen" if serving.max_model_len else "the model's own limit"),
    ]
