"""Writes a plan on known GPUs for programs: the keys of `ftm plan --gpus -o json`.

Bytes are of one rank, the one that holds most; those in `pod` are of one pod. Pure.
"""

from typing import Any

from ftm_operator.planning.gpu_plan import gpu_memory_utilization, host_of, rejected_size
from ftm_operator.planning.plan import Planned
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.outcome import Sizing
from ftm_operator.planning.sizing.reasons import reasons
from ftm_operator.planning.sizing.spec_sizing import NothingFits


def answer_json(result: Planned | Rejection) -> dict[str, Any]:
    """Returns the keys that programs may rely on; `reasons` says why, or what would make it fit."""
    if isinstance(result, Rejection):
        return _refusal_json(result)
    assert result.sizing, "a plan on known GPUs is sized"
    return {**sizing_json(result.sizing), "reasons": list(result.plan.reasons)}


def sizing_json(sizing: Sizing) -> dict[str, Any]:
    """Returns the choice, its memory and pod, why, and what was rejected."""
    option, request = sizing.option, sizing.request
    layout, memory = option.layout, option.memory
    room, slots = request.room, request.engine.slots
    return {
        "feasible": True,
        **({"adapters": room.planned(slots.count).to_json()} if room and slots else {}),
        "accelerator": option.accelerator.name,
        "resource": option.accelerator.resource,
        "gpus": layout.gpus,
        "gpusPerNode": layout.gpus // layout.nodes,
        "nodes": layout.nodes,
        "tensorParallelSize": layout.tensor_parallel,
        "pipelineParallelSize": layout.pipeline_parallel,
        "dtype": option.dtype,
        "quantization": sizing.scheme.label,
        "maxModelLen": option.context,
        "concurrency": request.concurrency,
        "maxNumBatchedTokens": option.batch.tokens,
        "maxNumSeqs": option.batch.sequences,
        "gpuMemoryUtilization": gpu_memory_utilization(sizing),
        "memory": dict(memory.items(request.concurrency, option.context)),
        "reserves": {name: each.to_json() for name, each in memory.reserves.items()},
        "kvCacheTokens": memory.cache.tokens(memory.left, option.context),
        "pod": pod_json(sizing),
        "reasons": reasons(sizing),
        "rejected": [rejected_size(layout).to_json() for layout in sizing.rejected],
    }


def pod_json(sizing: Sizing) -> dict[str, Any]:
    """Returns what one pod asks for; there is one on each node."""
    layout, labels = sizing.option.layout, sizing.option.accelerator.node_labels
    host = host_of(sizing)
    return {
        "gpus": layout.gpus // layout.nodes,
        "cpu": host.cpus,
        "memory": host.memory_bytes,
        "sharedMemory": host.shared_memory_bytes,
        **({"nodeSelector": dict(labels)} if labels else {}),
    }


def _refusal_json(refusal: Rejection) -> dict[str, Any]:
    told = [refusal.shortfall, *refusal.remedies] if isinstance(refusal, NothingFits) else [refusal.reason]
    rejected = refusal.rejected if isinstance(refusal, NothingFits) else ()
    return {
        "feasible": False,
        "rule": refusal.rule,
        "reasons": told,
        "rejected": [rejected_size(layout).to_json() for layout in rejected],
    }
