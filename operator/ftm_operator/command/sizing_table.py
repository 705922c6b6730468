"""How `ftm plan` shows where a model is placed: the choices, one rank's memory, why, and what was rejected. Pure."""

from collections.abc import Iterable

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.answer import gpu_memory_utilization, pod_json, reasons
from ftm_operator.planning.memory.reserves import GIB
from ftm_operator.planning.sizing import NoFit, Rejected, Sizing

ITEMS = {
    "weights": "weights",
    "activations": "activations",
    "cudaGraphs": "CUDA graphs",
    "nonTorch": "NCCL and the like",
    "rotary": "rotary table",
    "slack": "slack",
    "lora": "LoRA slots",
    "measuredCorrection": "measured correction",
    "kvCache": "KV cache",
    "total": "in all",
}


def format_sizing(model: FineTunedModel, found: Sizing | NoFit, remedies: list[str], decided: list[str]) -> str:
    """The whole output of `ftm plan --gpus`. `decided`: why this engine and these weights."""
    if isinstance(found, NoFit):
        lines = [f"{model.metadata.name} cannot be served as asked", f"  {found.rule}: {found.reason}"]
        lines += ["what would fit", *(f"  {each}" for each in remedies)] if remedies else []
        return "\n".join([*lines, *_rejections(found.rejected)])
    choices = {**_choices(found), "served model name": model.served_model_name}
    lines = [model.metadata.name, *(f"  {name:<23} {value}" for name, value in choices.items())]
    lines += ["memory of each GPU" if found.option.layout.gpus > 1 else "memory of the GPU", *_memory(found)]
    lines += ["why", *(f"  {reason}" for reason in [*decided, *reasons(found)])]
    return "\n".join([*lines, *_rejections(found.rejected)])


def _choices(found: Sizing) -> dict[str, str]:
    option = found.option
    layout, pod = option.layout, pod_json(found)
    parallel = f"tensor {layout.tensor_parallel}"
    parallel += f", pipeline {layout.pipeline_parallel}" if layout.pipeline_parallel > 1 else ""
    placed = f"{layout.gpus // layout.nodes} x {option.accelerator.name} ({option.accelerator.resource})"
    placed += f", on each of {layout.nodes} nodes" if layout.nodes > 1 else ""
    return {
        "accelerators": placed,
        "parallel": parallel,
        "quantization": found.scheme.label,
        "dtype": option.dtype,
        "context": f"{option.context} tokens, {found.request.concurrency} times at once",
        "KV cache": f"{option.memory.cache.tokens(option.memory.left, option.context)} tokens",
        "batch": f"{option.batch.tokens} tokens, {option.batch.sequences} sequences",
        "GPU memory utilization": f"{gpu_memory_utilization(found):g}",
        "pod": f"{pod['cpu']} CPUs, {_gib(pod['memory'])} memory, {_gib(pod['sharedMemory'])} of it shared",
    }


def _memory(found: Sizing) -> list[str]:
    option = found.option
    items = option.memory.items(found.request.concurrency, option.context)
    needed = f"  ({_gib(items['kvCacheNeeded'])} needed)"
    return [
        f"  {title:<23} {_gib(items[name]):>10}" + (needed if name == "kvCache" else "")
        for name, title in ITEMS.items()
        if name in items
    ]


def _rejections(rejected: Iterable[Rejected]) -> list[str]:
    lines = [f"  {_where(each):<26} {each.rule}: {each.reason}" for each in rejected]
    return ["rejected", *lines] if lines else []


def _where(each: Rejected) -> str:
    stages = f" x {each.pipeline_parallel} stages" if each.pipeline_parallel > 1 else ""
    return f"{each.accelerator}, {each.tensor_parallel}{stages}"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.2f} GiB"
