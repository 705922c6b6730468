"""Shows where a model is placed, for `ftm plan`: the choices, one rank's memory, why, and what was rejected. Pure."""

from collections.abc import Iterable

from ftm_jobs.contract.byte_counts import format_gib
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.gpu_plan import gpu_memory_utilization, host_of
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.outcome import RejectedLayout, Sizing
from ftm_operator.planning.sizing.spec_sizing import NothingFits

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


def format_sizing(model: FineTunedModel, plan: Plan, sizing: Sizing) -> str:
    """Returns the choices, the memory of the GPU that holds most, the plan's reasons, and what was not chosen."""
    choices = {**_choices(sizing), "served model name": model.served_model_name}
    lines = [model.metadata.name, *(f"  {name:<23} {value}" for name, value in choices.items())]
    lines += ["memory of each GPU" if sizing.option.layout.gpus > 1 else "memory of the GPU", *_memory(sizing)]
    lines += ["why", *(f"  {reason}" for reason in plan.reasons)]
    return "\n".join([*lines, *_rejections(sizing.rejected)])


def format_refusal(model: FineTunedModel, refusal: Rejection) -> str:
    """Returns why the model cannot be served, and what would fit if nothing does."""
    title = f"{model.metadata.name} cannot be served as asked"
    if not isinstance(refusal, NothingFits):
        return f"{title}\n  {refusal.rule}: {refusal.reason}"
    lines = [title, f"  {refusal.rule}: {refusal.shortfall}"]
    lines += ["what would fit", *(f"  {remedy}" for remedy in refusal.remedies)] if refusal.remedies else []
    return "\n".join([*lines, *_rejections(refusal.rejected)])


def _choices(sizing: Sizing) -> dict[str, str]:
    option = sizing.option
    layout, host = option.layout, host_of(sizing)
    parallel = f"tensor {layout.tensor_parallel}"
    parallel += f", pipeline {layout.pipeline_parallel}" if layout.pipeline_parallel > 1 else ""
    placed = f"{layout.gpus // layout.nodes} x {option.accelerator.name} ({option.accelerator.resource})"
    placed += f", on each of {layout.nodes} nodes" if layout.nodes > 1 else ""
    return {
        "accelerators": placed,
        "parallel": parallel,
        "quantization": sizing.scheme.label,
        "dtype": option.dtype,
        "context": f"{option.context} tokens, {sizing.request.concurrency} times at once",
        "KV cache": f"{option.memory.cache.tokens(option.memory.left, option.context)} tokens",
        "batch": f"{option.batch.tokens} tokens, {option.batch.sequences} sequences",
        "GPU memory utilization": f"{gpu_memory_utilization(sizing):g}",
        "pod": (
            f"{host.cpus} CPUs, {format_gib(host.memory_bytes)} memory, "
            f"{format_gib(host.shared_memory_bytes)} of it shared"
        ),
    }


def _memory(sizing: Sizing) -> list[str]:
    option = sizing.option
    items = option.memory.items(sizing.request.concurrency, option.context)
    needed = f"  ({format_gib(items['kvCacheNeeded'])} needed)"
    return [
        f"  {title:<23} {format_gib(items[name]):>10}" + (needed if name == "kvCache" else "")
        for name, title in ITEMS.items()
        if name in items
    ]


def _rejections(rejected: Iterable[RejectedLayout]) -> list[str]:
    lines = [f"  {_where(each):<26} {each.rule}: {each.reason}" for each in rejected]
    return ["rejected", *lines] if lines else []


def _where(rejected: RejectedLayout) -> str:
    stages = f" x {rejected.pipeline_parallel} stages" if rejected.pipeline_parallel > 1 else ""
    return f"{rejected.accelerator}, {rejected.tensor_parallel}{stages}"
