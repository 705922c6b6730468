"""Tries the layouts of one model on one kind of GPU, from the fewest GPUs up, until one holds what is asked.

The engine schedules as many tokens at once as vLLM's default for the GPU, or SMALL_BATCH where only that fits, so
that a larger GPU, for which the default is larger, never holds less.
"""

from dataclasses import dataclass, replace
from functools import cache

from ftm_jobs.contract.byte_counts import format_gib
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.kv_cache import CacheOptions
from ftm_operator.planning.memory.rank_memory import Load, rank_memory
from ftm_operator.planning.memory.reserves import SMALL_BATCH, Batch, default_batch
from ftm_operator.planning.memory.weights import RankPart, heaviest_stage, rank_parts
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.padding import padded
from ftm_operator.planning.model.quantization import MXFP4_GENERATIONS, Scheme
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.placement import (
    BFLOAT16_CAPABILITY,
    CLASS_RULES,
    NOT_IN_FLOAT16,
    Candidate,
    first_broken,
)
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.layouts import layouts
from ftm_operator.planning.sizing.outcome import Option, RejectedLayout, rejected_layout, requests_of
from ftm_operator.planning.sizing.request import Request

LEAST_CONTEXT = 4096
"""Tokens of context that are not gone below without being asked."""
FEW_SEQUENCES = tuple(replace(SMALL_BATCH, sequences=count) for count in (128, 64, 32, 16))
"""Batches for models whose CUDA graphs need a block of the cache for each sequence."""
STORED_DTYPES = {"BF16": "bfloat16", "F16": "float16"}


def serving_dtype(asked: str, model: Architecture, accelerator: AcceleratorClass) -> str:
    """Returns vLLM's dtype for computing; a GPU without bfloat16 takes float16. Source: config/model.py,
    _resolve_auto_dtype."""
    if asked != "auto":
        return asked
    wanted = STORED_DTYPES.get(model.dtype, "bfloat16")
    if wanted == "float16" and model.model_type in NOT_IN_FLOAT16:
        wanted = "bfloat16"
    if wanted == "bfloat16" and accelerator.capability and accelerator.capability < BFLOAT16_CAPABILITY:
        return "float32" if model.model_type in NOT_IN_FLOAT16 else "float16"
    return wanted


@dataclass(frozen=True)
class Trial:
    """The outcome of one class: the layout that fits, or the one that came closest."""

    option: Option | None
    closest: Option | None
    rejected: tuple[RejectedLayout, ...]


class Search:
    """Tries layouts for one model and request; weights are summed up once for each layout."""

    def __init__(self, model: Architecture, request: Request) -> None:
        if request.expert_parallel and model.experts:
            model = replace(model, experts=replace(model.experts, whole=True))
        self.model, self.request = model, request
        self.scheme = request.scheme or model.quantization

        @cache
        def model_on(ranks: int) -> Architecture:
            return padded(model, self.scheme, ranks)

        @cache
        def parts(tp: int, dtype: str, scheme: Scheme) -> list[RankPart]:
            return rank_parts(model_on(tp), tp, dtype, scheme)

        @cache
        def weight_bytes(tp: int, pp: int, dtype: str, scheme: Scheme) -> int:
            return heaviest_stage(model, parts(tp, dtype, scheme), pp).total

        self.model_on, self.weight_bytes = model_on, weight_bytes
        self.corrections = {
            (each.accelerator, each.tensor_parallel, each.pipeline_parallel): each.held_bytes
            for each in request.corrections
        }

    def try_class(self, accelerator: AcceleratorClass, least: int) -> Trial:
        """Returns the first layout that fits and those rejected before it, or the layout that came closest."""
        request = self.request
        dtype = serving_dtype(request.dtype, self.model, accelerator)
        base = Candidate(self.model, Layout(request.tensor_parallel or 1, 1, 1), accelerator, dtype, self.scheme)
        if broken := first_broken(base, CLASS_RULES):
            return Trial(None, None, (rejected_layout(accelerator, base.layout, broken),))
        possible = layouts(base, request.tensor_parallel, request.pipeline_parallel, request.several_nodes)
        rejected = {size: rejected_layout(accelerator, Layout(size, 1, 1), rule) for size, rule in possible.broken}
        tried: list[RejectedLayout] = []
        closest = None
        for layout in possible.allowed:
            best = self.best_batch(accelerator, layout, dtype)
            if best.context >= (request.context or least):
                before = [each for size, each in rejected.items() if size < layout.gpus]
                return Trial(best, None, _telling([*before, *tried]))
            tried.append(rejected_layout(accelerator, layout, self.too_large(best)))
            closest = max(closest or best, best, key=closeness)
        return Trial(None, closest, _telling([*rejected.values(), *tried], closest))

    def best_batch(self, accelerator: AcceleratorClass, layout: Layout, dtype: str) -> Option:
        """Returns the layout with the engine's default batch if that is enough, else with the one that leaves most
        context."""
        limit = self.request.context or self.model.max_context
        options = [self.option(accelerator, layout, dtype, batch, limit) for batch in self.batches(accelerator)]
        return max(options, key=lambda option: option.context)

    def batches(self, accelerator: AcceleratorClass) -> list[Batch]:
        """Returns the batches worth trying, the engine's default first; the request's own numbers always count."""
        request = self.request
        default = default_batch(accelerator.usable_bytes, accelerator.product or accelerator.name)
        wanted = [
            Batch(request.batched_tokens or batch.tokens, request.batched_sequences or batch.sequences)
            for batch in (default, SMALL_BATCH, *(FEW_SEQUENCES if self.model.state else ()))
        ]
        return list(dict.fromkeys(wanted))

    def option(self, accelerator: AcceleratorClass, layout: Layout, dtype: str, batch: Batch, limit: int) -> Option:
        """Returns the layout with its memory and the longest context up to the limit."""
        request = self.request
        model, cache_dtype = self.model_on(layout.tensor_parallel), "fp8"
        if request.cache_dtype == "auto":
            cache_dtype = dtype
        load = Load(model, dtype, self.scheme, cache_dtype, request.engine, self.cache_options(dtype, batch))
        weights = self.weight_bytes(
            layout.tensor_parallel, layout.pipeline_parallel, dtype, self.scheme_on(accelerator)
        )
        memory = rank_memory(load, weights, layout, accelerator, batch, request.utilization)
        sizes = accelerator.name, layout.tensor_parallel, layout.pipeline_parallel
        memory = replace(memory, correction=self.corrections.get(sizes, 0))
        context = memory.longest_context(request.concurrency, limit)
        return Option(accelerator, layout, dtype, batch, context, memory)

    def scheme_on(self, accelerator: AcceleratorClass) -> Scheme:
        """Returns the packing as the engine's kernels for this GPU keep it."""
        has = accelerator.capability
        marlin = self.scheme.method == "mxfp4" and has is not None and has[0] not in MXFP4_GENERATIONS
        return replace(self.scheme, marlin=marlin)

    def cache_options(self, dtype: str, batch: Batch) -> CacheOptions:
        """Returns the choices of the request that change the cache."""
        request, said = self.request, self.request.prefix_caching
        return CacheOptions(
            serving_dtype=dtype,
            recurrent_dtype=request.recurrent_dtype,
            convolution_dtype=request.state_dtype,
            prefix_caching=request.engine.caches_states if said is None else said,
            graph_sequences=0 if request.engine.eager else batch.sequences,
        )

    def too_large(self, option: Option) -> Rejection:
        """Says how much memory is asked for, by item, and how much there is."""
        memory, request = option.memory, self.request
        context = request.context or min(LEAST_CONTEXT, self.model.max_context)
        needed = memory.cache.needed_bytes(request.concurrency, context)
        return Rejection(
            "Memory",
            f"each GPU needs {format_gib(memory.held + needed)}: {format_gib(memory.weights)} of weights, "
            f"{format_gib(memory.held - memory.weights)} of reserves and {format_gib(needed)} of KV cache for "
            f"{requests_of(request.concurrency, context)}; it has {format_gib(memory.budget)}, "
            f"{request.utilization:.0%} of {format_gib(option.accelerator.usable_bytes)}"
            + (f", shared by {option.accelerator.shared_by} pods" if option.accelerator.shared_by > 1 else "")
            + self._where_ends_disagree(option, context),
        )

    def _where_ends_disagree(self, option: Option, context: int) -> str:
        """Says that it would fit with the least reserves that logs show, if it would."""
        memory, sequences = option.memory, self.request.concurrency
        needed = memory.cache.needed_bytes(sequences, context)
        if needed > memory.left + memory.unsure:
            return ""
        least = format_gib(memory.held - memory.unsure - memory.weights)
        return f"; with the least reserves that vLLM was seen to hold, {least}, it would fit"


def _telling(rejected: list[RejectedLayout], closest: Option | None = None) -> tuple[RejectedLayout, ...]:
    """Returns each tensor-parallel size, smallest first, and of layouts with stages the closest or the largest."""
    plain = sorted((each for each in rejected if each.pipeline_parallel == 1), key=lambda each: each.tensor_parallel)
    staged = [each for each in rejected if each.pipeline_parallel > 1]
    return (*plain, *([each for each in staged if closest and is_option(each, closest)] or staged[-1:]))


def closeness(option: Option) -> tuple[int, ...]:
    """Orders options that do not fit: by the longest context, the least that is missing, and the plainest layout."""
    layout = option.layout
    return option.context, option.memory.left, -layout.pipeline_parallel, layout.gpus


def is_option(rejected: RejectedLayout, option: Option) -> bool:
    """Returns whether this option was rejected for its memory."""
    layout = option.layout
    return (rejected.accelerator, rejected.tensor_parallel, rejected.pipeline_parallel, rejected.rule) == (
        option.accelerator.name,
        layout.tensor_parallel,
        layout.pipeline_parallel,
        "Memory",
    )
