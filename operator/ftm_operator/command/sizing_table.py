"""Shows where a model is placed, for `ftm plan`: the choices, one rank's memory, why, and what was rejected. Pure."""

from collections.abc import Iterable

from ftm_jobs.contract.byte_counts import format_gib
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan, PlannedAdapters
from ftm_operator.planning.feedback.comparison import Item, LogComparison
from ftm_operator.planning.gpu_plan import gpu_memory_utilization, host_of
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.outcome import RejectedLayout, Sizing
from ftm_operator.planning.sizing.reasons import TITLES
from ftm_operator.planning.sizing.spec_sizing import NothingFits

ITEMS = {
    "weights": "weights",
    **TITLES,
    "measuredCorrection": "measured correction",
    "kvCache": "KV cache",
    "total": "in all",
}
OTHER_ITEMS = {
    "kvCacheBytesPerToken": "bytes of a token",
    "kvCacheTokens": "tokens",
    "requestsAtOnce": "requests at once",
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
    room, slots = sizing.request.room, sizing.request.engine.slots
    return {
        **(adapters_choice(room.planned(slots.count)) if room and slots else {}),
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


def adapters_choice(planned: PlannedAdapters) -> dict[str, str]:
    """Returns the room for adapters beside the base, as a choice."""
    batch = f"{planned.slots} in one batch, {planned.cpu_slots} in the host's memory"
    return {"mode": "Dynamic", "adapters": f"rank {planned.max_rank} at most, {batch}"}


def _memory(sizing: Sizing) -> list[str]:
    option = sizing.option
    items = option.memory.items(sizing.request.concurrency, option.context)
    beside = {"kvCache": f"  ({format_gib(items['kvCacheNeeded'])} needed)"}
    for name, each in option.memory.reserves.items():
        if each.least != each.most:
            beside[name] = f"  ({format_gib(each.least)} at least)"
    return [
        f"  {title:<23} {format_gib(items[name]):>10}" + beside.get(name, "")
        for name, title in ITEMS.items()
        if name in items
    ]


def _rejections(rejected: Iterable[RejectedLayout]) -> list[str]:
    lines = [f"  {_where(each):<26} {each.rule}: {each.reason}" for each in rejected]
    return ["rejected", *lines] if lines else []


def _where(rejected: RejectedLayout) -> str:
    stages = f" x {rejected.pipeline_parallel} stages" if rejected.pipeline_parallel > 1 else ""
    return f"{rejected.accelerator}, {rejected.tensor_parallel}{stages}"


def format_comparison(model: FineTunedModel, found: LogComparison) -> str:
    """Returns what is predicted beside what was logged, with the error, and where the log is not of this plan."""
    option = found.option
    layout = option.layout
    where = f"{layout.gpus} x {option.accelerator.name}, tensor-parallel size {layout.tensor_parallel}"
    where += f", {layout.pipeline_parallel} pipeline stages" if layout.pipeline_parallel > 1 else ""
    version = f" {found.version}" if found.version else ""
    lines = [
        f"{model.metadata.name} beside a log of vLLM{version}: {where}, {option.context} tokens",
        f"  {'':<23} {'predicted':>11} {'other end':>11} {'logged':>11} {'error':>7}",
    ]
    lines += [_compared(each) for each in found.items]
    lines += ["differs", *(f"  {each}" for each in found.differences)] if found.differences else []
    return "\n".join(lines)


def _compared(item: Item) -> str:
    title = {**ITEMS, **OTHER_ITEMS}[item.name]
    predicted, other_end, logged = (_figure(each, item.unit) for each in (item.predicted, item.other_end, item.logged))
    error = "" if item.error is None else f"{item.error:+.1%}"
    within = "  between both ends" if item.within_ends else ""
    return f"  {title:<23} {predicted:>11} {other_end:>11} {logged:>11} {error:>7}{within}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return format_gib(value) if unit == "bytes" else f"{value:.1f}" if unit == "requests" else f"{value:.0f}"
