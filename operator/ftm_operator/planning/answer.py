"""The sizing as people and programs read it: `ftm plan -o json`, and the sentences of `reasons`.

Bytes are of one rank, the one that holds most. Pure.
"""

from typing import Any

from ftm_operator.planning.memory.rank import gib
from ftm_operator.planning.memory.reserves import (
    HOST_BYTES,
    HOST_CPUS_PER_RANK,
    SHARED_MEMORY_BYTES_PER_RANK,
    default_batch,
)
from ftm_operator.planning.sizing import NoFit, Rejected, Sizing, gpus


def sizing_json(found: Sizing | NoFit, remedies: list[str] | None = None) -> dict[str, Any]:
    """The keys that programs may rely on; `reasons` says why, or what would make it fit."""
    rejected = [rejected_json(each) for each in found.rejected]
    if isinstance(found, NoFit):
        return {
            "feasible": False,
            "rule": found.rule,
            "reasons": [found.reason, *(remedies or [])],
            "rejected": rejected,
        }
    option, request = found.option, found.request
    layout, memory = option.layout, option.memory
    return {
        "feasible": True,
        "accelerator": option.accelerator.name,
        "resource": option.accelerator.resource,
        "gpus": layout.gpus,
        "gpusPerNode": layout.gpus // layout.nodes,
        "nodes": layout.nodes,
        "tensorParallelSize": layout.tensor_parallel,
        "pipelineParallelSize": layout.pipeline_parallel,
        "dtype": option.dtype,
        "quantization": found.scheme.label,
        "maxModelLen": option.context,
        "concurrency": request.concurrency,
        "maxNumBatchedTokens": option.batch.tokens,
        "maxNumSeqs": option.batch.sequences,
        "gpuMemoryUtilization": gpu_memory_utilization(found),
        "memory": dict(memory.items(request.concurrency, option.context)),
        "kvCacheTokens": memory.cache.tokens(memory.left, option.context),
        "pod": pod_json(found),
        "reasons": reasons(found),
        "rejected": rejected,
    }


def rejected_json(each: Rejected) -> dict[str, Any]:
    sizes = {"tensorParallelSize": each.tensor_parallel}
    if each.pipeline_parallel > 1:
        sizes["pipelineParallelSize"] = each.pipeline_parallel
    return {"accelerator": each.accelerator, **sizes, "rule": each.rule, "reason": each.reason}


def gpu_memory_utilization(found: Sizing) -> float:
    """What the engine is told; a share of it where pods share the GPU."""
    return round(found.request.utilization / found.option.accelerator.shared_by, 4)


def pod_json(found: Sizing) -> dict[str, Any]:
    """What one pod asks for: one on each node."""
    option = found.option
    ranks = option.layout.gpus // option.layout.nodes
    shared = ranks * SHARED_MEMORY_BYTES_PER_RANK
    labels = option.accelerator.node_labels
    return {
        "gpus": ranks,
        "cpu": ranks * HOST_CPUS_PER_RANK,
        "memory": ranks * option.memory.weights + shared + HOST_BYTES,
        "sharedMemory": shared,
        **({"nodeSelector": dict(labels)} if labels else {}),
    }


def reasons(found: Sizing) -> list[str]:
    """Why each of these was chosen, one sentence each."""
    return [
        _size_reason(found),
        _layout_reason(found),
        _dtype_reason(found),
        _context_reason(found),
        _batch_reason(found),
        *_correction_reason(found),
    ]


def _size_reason(found: Sizing) -> str:
    option, request, memory = found.option, found.request, found.option.memory
    needed = memory.cache.needed_bytes(request.concurrency, option.context)
    each = "on each " if option.layout.gpus > 1 else ""
    return (
        f"{option.layout.gpus} x {option.accelerator.name}: the fewest GPUs that hold {each}{gib(memory.weights)} of "
        f"weights, {gib(memory.held - memory.weights)} of reserves and {gib(needed)} of KV cache for "
        f"{request.concurrency} x {option.context} tokens in {gib(memory.budget)}"
    )


def _layout_reason(found: Sizing) -> str:
    model, layout, asked = found.model, found.option.layout, found.request.tensor_parallel
    sentence = f"tensor-parallel size {layout.tensor_parallel}"
    sentence += " from spec.serving.tensorParallelSize" if asked else ""
    sentence += f": {model.heads} attention heads" + (
        "" if model.latent else f" and {model.key_value_heads} key-value heads"
    )
    sentence += (
        " divide"
        if model.latent or model.key_value_heads >= layout.tensor_parallel
        else (" divide, the latter held by several GPUs each")
    )
    if layout.nodes > 1:
        sentence += (
            f"; {layout.pipeline_parallel} pipeline stages over {layout.nodes} nodes, since one node's "
            f"{gpus(found.option.accelerator.per_node)} do not hold it"
        )
    elif layout.pipeline_parallel > 1:
        sentence += f"; {layout.pipeline_parallel} pipeline stages, since no larger tensor-parallel size is possible"
    return sentence


def _dtype_reason(found: Sizing) -> str:
    option, packed = found.option, found.scheme
    if found.request.dtype != "auto":
        sentence = f"dtype {option.dtype}: from spec.serving.dtype"
    elif found.model.dtype == "BF16" and option.dtype != "bfloat16":
        sentence = (
            f"dtype {option.dtype}: the weights are bfloat16, which {option.accelerator.name} does not compute in"
        )
    elif found.model.dtype == "F32":
        sentence = f"dtype {option.dtype}: float32 weights are served in 16 bits"
    else:
        sentence = f"dtype {option.dtype}: the weights' own"
    return f"{sentence}; weights in {packed.label}" if packed.packs else sentence


def _context_reason(found: Sizing) -> str:
    option, limit = found.option, found.model.max_context
    if found.request.context:
        return f"context {option.context} tokens: from spec.serving.maxModelLen"
    if option.context == limit:
        return f"context {option.context} tokens: the model's own limit"
    return (
        f"context {option.context} tokens: the longest that fits {found.request.concurrency} times, rounded down to a "
        f"block of {option.memory.cache.block_tokens}; the model's own limit is {limit}"
    )


def _batch_reason(found: Sizing) -> str:
    option = found.option
    accelerator = option.accelerator
    default = default_batch(accelerator.usable_bytes, accelerator.product or accelerator.name)
    sentence = f"{option.batch.tokens} tokens of {option.batch.sequences} sequences at once: "
    if found.request.batched_tokens or found.request.batched_sequences:
        return sentence + "from spec.serving.extraArgs"
    if option.batch == default:
        return sentence + f"vLLM's default for {accelerator.name}"
    return sentence + f"vLLM's default of {default.tokens} and {default.sequences} leaves too little for the KV cache"


def _correction_reason(found: Sizing) -> list[str]:
    correction = found.option.memory.correction
    if not correction:
        return []
    held = f"{gib(abs(correction))} {'more' if correction > 0 else 'less'}"
    return [f"{held} of reserves than estimated: what vLLM was measured to hold of {found.option.accelerator.name}"]
