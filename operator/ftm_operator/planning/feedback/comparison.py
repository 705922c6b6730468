"""Holds what a plan predicts beside what a start-up log says, item by item with the error. Pure.

What is predicted is the manifest's model with the sizes of the log: its ranks, context, batch, share of the GPU and
version. Where the plan has other sizes, the differences say so. An error is that of the prediction, as a share of what
was logged. Reserves have two ends, and so has what they leave for the KV cache: the safe one is predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.facts import BaseFacts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.decision import decide
from ftm_operator.planning.feedback.start_log import StartLog
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.model.architecture import Architecture, architecture
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.outcome import Option, Sizing
from ftm_operator.planning.sizing.request import Request, request_of
from ftm_operator.planning.sizing.search import Search, serving_dtype

DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "half": "float16", "float32": "float32", "float": "float32"}
"""vLLM's names of dtypes, as arguments and as torch's."""
OTHER_GPU = 0.02
"""A GPU whose memory differs by more is another one."""


@dataclass(frozen=True)
class Item:
    """One figure, as predicted and as logged."""

    name: str
    predicted: float
    logged: float | None
    other_end: float | None = None
    """The figure that it may be instead, where logs of other starts disagree; what is predicted is the safe end."""
    unit: str = "bytes"

    @property
    def error(self) -> float | None:
        """Returns the prediction's error as a share of what was logged; None where it did not say, or said 0."""
        return (self.predicted - self.logged) / abs(self.logged) if self.logged else None

    @property
    def within_ends(self) -> bool:
        """Returns whether what was logged is between both ends."""
        if self.logged is None or self.other_end is None:
            return False
        return min(self.predicted, self.other_end) <= self.logged <= max(self.predicted, self.other_end)

    def to_json(self) -> dict[str, Any]:
        figures = {
            "predicted": self.predicted,
            "otherEnd": self.other_end,
            "logged": self.logged,
            "error": self.error,
            "withinEnds": self.within_ends if self.logged is not None and self.other_end is not None else None,
        }
        known = {name: value for name, value in figures.items() if value is not None}
        return {"item": self.name, "unit": self.unit, **known}


@dataclass(frozen=True)
class LogComparison:
    """A prediction beside a log."""

    option: Option
    """The layout that the log has, with the memory that is predicted of it."""
    version: str | None
    items: tuple[Item, ...]
    differences: tuple[str, ...]
    """Sentences on what of the log is not as planned."""

    def to_json(self) -> dict[str, Any]:
        layout = self.option.layout
        return {
            "engine": self.version,
            "accelerator": self.option.accelerator.name,
            "tensorParallelSize": layout.tensor_parallel,
            "pipelineParallelSize": layout.pipeline_parallel,
            "maxModelLen": self.option.context,
            "items": [each.to_json() for each in self.items],
            "differences": list(self.differences),
        }


def comparison(
    spec: FineTunedModelSpec,
    base: BaseFacts,
    classes: Sequence[AcceleratorClass],
    planned: Sizing | None,
    log: StartLog,
) -> LogComparison | str:
    """Returns the prediction beside the log, or the reason for which vLLM does not serve the model.

    `planned`: the plan's sizing; None where nothing fits. `classes`: the kinds of GPU that the log may be of, at least
    one.
    """
    decision = decide(spec, base, spec.serving.tensor_parallel_size or 1)
    if isinstance(decision, Rejection):
        return decision.reason
    if decision.engine != "vLLM":
        return decision.reasons[0]
    request = planned.request if planned else request_of(spec)
    if planned is None and decision.awq:
        request = replace(request, scheme=decision.awq.scheme())
    accelerator = _accelerator(classes, planned, log)
    option = _option(architecture(base), request, accelerator, log)
    return LogComparison(
        option, log.version, tuple(_items(option, log)), tuple(_differences(option, planned, log, base.uri))
    )


def _accelerator(classes: Sequence[AcceleratorClass], planned: Sizing | None, log: StartLog) -> AcceleratorClass:
    """Returns the kind that has the log's memory, or the plan's, or the first."""
    total = log.total_bytes
    if total:
        return min(classes, key=lambda each: abs(each.usable_bytes - total))
    return planned.option.accelerator if planned else classes[0]


def _option(model: Architecture, request: Request, accelerator: AcceleratorClass, log: StartLog) -> Option:
    """Returns the layout of the log with the memory that is predicted of it; the request counts where it is silent."""
    request = _with_the_logs_sizes(request, log)
    search = Search(model, request)
    dtype = DTYPES.get(log.settings.get("dtype", "")) or serving_dtype(request.dtype, model, accelerator)
    layout = Layout(request.tensor_parallel or 1, request.pipeline_parallel or 1, 1)
    limit = request.context or model.max_context
    option = search.option(accelerator, layout, dtype, search.batches(accelerator)[0], limit)
    return replace(option, context=limit)


def _with_the_logs_sizes(request: Request, log: StartLog) -> Request:
    share, cache = log.settings.get("gpu_memory_utilization"), log.settings.get("kv_cache_dtype", "auto")
    eager = log.settings.get("enforce_eager")
    caching, engine = log.settings.get("enable_prefix_caching"), request.engine
    return replace(
        request,
        tensor_parallel=log.number("tensor_parallel_size") or request.tensor_parallel,
        pipeline_parallel=log.number("pipeline_parallel_size") or request.pipeline_parallel,
        context=log.number("max_model_len") or request.context,
        utilization=float(share) if share else request.utilization,
        batched_tokens=log.batched_tokens or request.batched_tokens,
        batched_sequences=log.number("max_num_seqs") or request.batched_sequences,
        cache_dtype="fp8" if cache.startswith("fp8") else request.cache_dtype if cache == "auto" else "auto",
        prefix_caching=caching == "True" if caching else request.prefix_caching,
        engine=replace(
            engine,
            version=log.minor_version if log.version else engine.version,
            eager=eager == "True" if eager else engine.eager,
        ),
        corrections=(),
    )


def _items(option: Option, log: StartLog) -> Iterator[Item]:
    memory, measured, context = option.memory, log.measured, option.context
    yield Item("weights", memory.loaded, measured.weight_bytes)
    yield from _reserve_items(option, log)
    most = memory.left + memory.unsure
    found, tokens = measured.kv_cache_bytes, measured.kv_cache_tokens
    yield Item("kvCache", memory.left, found, most)
    a_token = memory.cache.pool_block_bytes * memory.cache.sequence_blocks(context) / context
    yield Item("kvCacheBytesPerToken", a_token, found / tokens if found and tokens else None, unit="bytes a token")
    safe, other = (memory.cache.tokens(each, context) for each in (memory.left, most))
    yield Item("kvCacheTokens", safe, tokens, other, "tokens")
    yield Item("requestsAtOnce", safe / context, measured.max_concurrency, other / context, "requests")


def _reserve_items(option: Option, log: StartLog) -> Iterator[Item]:
    """Yields the reserves that logs name. CUDA graphs that are not deducted are no part of the estimate; those that are
    have their estimate in the peak of activations too.
    """
    reserves = option.memory.reserves
    activations, graphs, non_torch = reserves["activations"], reserves["cudaGraphs"], reserves["nonTorch"]
    yield Item("activations", activations.most + graphs.most, log.activation_bytes, activations.least)
    if graphs.most:
        captured = None if log.graph_bytes is None else max(0, log.graph_bytes)
        yield Item("cudaGraphs", graphs.most, captured, graphs.least)
    yield Item("nonTorch", non_torch.most, log.non_torch_bytes, non_torch.least)


def _differences(option: Option, planned: Sizing | None, log: StartLog, base: str) -> Iterator[str]:
    """Says where the log's model, sizes and GPU are not the plan's. `base`: the URI of the manifest's base."""
    if log.model and base.startswith("hf://") and not log.model.startswith("/"):
        name = base.removeprefix("hf://").partition("@")[0]
        if name.lower() != log.model.lower():
            yield f"the log serves {log.model}, the manifest's base is {name}"
    usable = option.accelerator.usable_bytes
    if log.total_bytes and abs(log.total_bytes - usable) > OTHER_GPU * usable:
        yield (
            f"the log's GPU has {log.total_bytes / GIB:.2f} GiB, {option.accelerator.name} has {usable / GIB:.2f}: "
            "name the log's kind of GPU in --gpus"
        )
    if log.lack:
        yield f"the engine of the log did not start: {log.lack.said}"
    if planned is None:
        yield "the plan finds no GPU that holds the model as asked; what is predicted has the log's sizes"
        return
    share = planned.request.utilization
    said = log.settings.get("gpu_memory_utilization")
    ours, theirs = _sizes(planned.option, share), _sizes(option, float(said) if said else share)
    yield from (
        f"{name}: the log has {theirs[name]}, the plan {value}" for name, value in ours.items() if value != theirs[name]
    )


def _sizes(option: Option, utilization: float) -> dict[str, object]:
    """Returns the sizes by their names for people."""
    return {
        "tensor-parallel size": option.layout.tensor_parallel,
        "pipeline stages": option.layout.pipeline_parallel,
        "context": option.context,
        "dtype": option.dtype,
        "max-num-batched-tokens": option.batch.tokens,
        "max-num-seqs": option.batch.sequences,
        "GPU memory utilization": utilization,
    }
