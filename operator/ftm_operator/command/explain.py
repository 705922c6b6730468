"""Explains from its status how a model in the cluster is placed: `ftm explain`."""

import json
from collections.abc import Iterator

from ftm_jobs.contract.byte_counts import format_gib
from ftm_operator.api.v1alpha1 import Condition, FineTunedModelStatus, Plan, RejectedSize, Start
from ftm_operator.command import live_status
from ftm_operator.command.options import NameArgument, NamespaceOption, OutputFormat, OutputOption
from ftm_operator.command.sizing_table import ITEMS
from ftm_operator.local.errors import WrongUse
from ftm_operator.observe.start_time import said_of_start


def explain(name: NameArgument, namespace: NamespaceOption = None, output: OutputOption = OutputFormat.TABLE) -> None:
    """Say on which GPUs a model in the cluster is served, with how much of their memory, and why not otherwise."""
    status = live_status.status_of(namespace, name)
    stalled = next((each for each in status.conditions if each.type == "Stalled"), None)
    if status.plan is None and stalled is None:
        raise WrongUse(f"{name} has not been planned yet; see `kubectl describe ftm {name}`")
    if output is OutputFormat.JSON:
        plan = status.plan.to_json() if status.plan else {}
        print(json.dumps({"feasible": status.plan is not None, **plan, **_stalled_json(stalled)}, indent=2))
    else:
        print("\n".join(format_plan(name, status, stalled)))


def format_plan(name: str, status: FineTunedModelStatus, stalled: Condition | None) -> Iterator[str]:
    """The choices, the memory of the GPU that holds most, the reasons, and what was not chosen."""
    yield name
    if stalled:
        yield f"  stalled                 {stalled.reason}: {stalled.message}"
    if status.plan is None:
        return
    plan = status.plan
    for title, value in _choices(plan, status.start).items():
        yield f"  {title:<23} {value}"
    if plan.memory:
        where = "memory of each GPU, as estimated" if (plan.gpus or 0) > 1 else "memory of the GPU, as estimated"
        measured = _measured_bytes(plan)
        yield f"{where} and as the engine measured it" if measured else where
        for item, title in ITEMS.items():
            if item in plan.memory:
                beside = f" {format_gib(measured[item]):>10}" if item in measured else ""
                yield f"  {title:<23} {format_gib(plan.memory[item]):>10}{beside}"
    yield "why"
    yield from (f"  {reason}" for reason in plan.reasons)
    if plan.rejected:
        yield "rejected"
        yield from (f"  {_where(each):<26} {each.rule}: {each.reason}" for each in plan.rejected)


def _choices(plan: Plan, start: Start | None) -> dict[str, object]:
    choices: dict[str, object] = {"engine": plan.engine, "quantization": plan.quantization}
    if plan.gpus:
        kind = f" {plan.accelerator_class}" if plan.accelerator_class else ""
        where = f", on {plan.nodes} nodes" if plan.nodes else ""
        choices["accelerators"] = f"{plan.gpus} x{kind} ({plan.accelerator}) for each replica{where}"
        choices["tensor-parallel size"] = plan.tensor_parallel_size
    if plan.pipeline_parallel_size:
        choices["pipeline stages"] = plan.pipeline_parallel_size
    choices["context"] = f"{plan.max_model_len} tokens"
    if plan.concurrency:
        choices["at once"] = f"{plan.concurrency} requests of the whole context"
    if plan.kv_cache_tokens:
        choices["KV cache"] = f"{plan.kv_cache_tokens} tokens"
    if plan.measured and plan.measured.kv_cache_tokens:
        most = (
            f", {plan.measured.max_concurrency:g} requests of the whole context"
            if plan.measured.max_concurrency
            else ""
        )
        choices["KV cache, measured"] = f"{plan.measured.kv_cache_tokens} tokens{most}"
    if start:
        choices["start"] = said_of_start(start)
    if plan.max_num_batched_tokens:
        choices["batch"] = f"{plan.max_num_batched_tokens} tokens, {plan.max_num_seqs} sequences"
    return choices


def _measured_bytes(plan: Plan) -> dict[str, int]:
    """By the names of the estimate's items."""
    measured = plan.measured
    if measured is None:
        return {}
    sizes = {"weights": measured.weight_bytes, "kvCache": measured.kv_cache_bytes}
    return {item: size for item, size in sizes.items() if size is not None}


def _where(rejected: RejectedSize) -> str:
    stages = f" x {rejected.pipeline_parallel_size} stages" if rejected.pipeline_parallel_size else ""
    return f"{rejected.accelerator}, {rejected.tensor_parallel_size}{stages}"


def _stalled_json(stalled: Condition | None) -> dict[str, object]:
    return {"stalled": {"rule": stalled.reason, "reason": stalled.message}} if stalled else {}
