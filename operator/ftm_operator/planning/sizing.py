"""On which GPUs, over how many of them and at which context a model is served; what was rejected, and why.

The rule, for every model alike: the smallest number of GPUs that holds the weights, the reserves and the KV cache of
`concurrency` sequences at the full wanted context; then the fewest nodes; then the cost order of accelerators.py; then
the order in which the classes are given. The memory is memory.py's, the layouts and what forbids one are layouts.py's.

Without a wanted context it is the longest that fits, up to the model's own limit and rounded down to a block, on the
smallest number of GPUs that holds LEAST_CONTEXT (or any context at all, if none holds that).

The engine schedules as many tokens at once as vLLM's default for the GPU, or SMALL_BATCH where only that fits, so
that a larger GPU, for which the default is larger, never holds less.

Examples: Mistral-7B-v0.1 in float16 at 4096 tokens takes one A10G: 13.49 GiB of weights, 1.2 of reserves and 4.0 of KV
cache in 92 % of 22.06. At 8192 it takes two. Llama-3.1-70B in bfloat16 at 8192 takes four A100-80: two would need
65.7 + 10 GiB each, and 64 heads do not divide by 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.layouts import layouts
from ftm_operator.planning.memory.rank import Layout, Load, RankMemory, gib, rank_memory
from ftm_operator.planning.memory.reserves import SMALL_BATCH, UTILIZATION, Batch, default_batch
from ftm_operator.planning.memory.weights import RankPart, heaviest_stage, rank_parts
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.padding import padded
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.rules.constraints import (
    BFLOAT16_CAPABILITY,
    CLASS_RULES,
    NOT_IN_FLOAT16,
    Candidate,
    first_broken,
)
from ftm_operator.planning.rules.tensor_parallel import Rejection

CONCURRENCY = 8
"""Sequences at the full context that must fit at once, by default."""
LEAST_CONTEXT = 4096
"""What is not gone below without being asked, in tokens."""
STORED_DTYPES = {"BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Correction:
    """What an engine was found to hold of each GPU beyond the estimate, on this kind of GPU with these sizes."""

    accelerator: str
    tensor_parallel: int
    pipeline_parallel: int
    held_bytes: int
    """Below zero where it held less."""


@dataclass(frozen=True)
class Request:
    """What is asked for; None leaves it to the planner."""

    context: int | None = None
    """--max-model-len, in tokens."""
    concurrency: int = CONCURRENCY
    dtype: str = "auto"
    scheme: Scheme | None = None
    """How the weights are packed; None: as they are stored."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    utilization: float = UTILIZATION
    cache_dtype: str = "auto"
    """fp8 halves the KV cache."""
    batched_tokens: int | None = None
    batched_sequences: int | None = None
    eager: bool = False
    """Without CUDA graphs."""
    lora_bytes: int = 0
    several_nodes: bool = True
    """Whether a replica may span nodes, which takes LeaderWorkerSet in a cluster."""
    corrections: tuple[Correction, ...] = ()
    """By what was measured of the same model; a later one of the same sizes counts."""


@dataclass(frozen=True)
class Rejected:
    accelerator: str
    tensor_parallel: int
    pipeline_parallel: int
    rule: str
    reason: str


@dataclass(frozen=True)
class Option:
    """A layout on a kind of GPU that holds the model."""

    accelerator: AcceleratorClass
    layout: Layout
    dtype: str
    batch: Batch
    context: int
    memory: RankMemory


@dataclass(frozen=True)
class Sizing:
    """The answer where there is one."""

    option: Option
    request: Request
    scheme: Scheme
    model: Architecture
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class NoFit:
    """The answer where nothing holds the model."""

    rule: str
    """Of the first rejection that says most."""
    reason: str
    rejected: tuple[Rejected, ...]
    closest: Option | None = None
    """The largest layout, with the context that it would hold; 0 tokens: not even the weights."""


def size(model: Architecture, request: Request, classes: Sequence[AcceleratorClass]) -> Sizing | NoFit:
    """The choice over all classes, or why there is none."""
    if request.context and request.context > model.max_context:
        return NoFit(
            "ContextLength",
            f"{request.context} tokens exceed the model's limit of {model.max_context}; ask for at most that",
            (),
        )
    search = _Search(model, request)
    least = min(LEAST_CONTEXT, model.max_context)
    trials = [search.try_class(each, least) for each in classes]
    if request.context is None and not any(trial.option for trial in trials):
        trials = [search.try_class(each, 1) for each in classes]
    ranked = sorted(
        ((index, trial.option) for index, trial in enumerate(trials) if trial.option), key=lambda pair: _order(*pair)
    )
    rejected = [each for trial in trials for each in trial.rejected]
    if not ranked:
        return _no_fit(tuple(rejected), trials)
    chosen = ranked[0][1]
    rejected += [_not_chosen(option, chosen) for _, option in ranked[1:]]
    return Sizing(chosen, request, search.scheme, model, tuple(rejected))


def serving_dtype(asked: str, model: Architecture, accelerator: AcceleratorClass) -> str:
    """What vLLM computes in; a GPU without bfloat16 takes float16. Source: config/model.py, _resolve_auto_dtype."""
    if asked != "auto":
        return asked
    wanted = STORED_DTYPES.get(model.dtype, "bfloat16")
    if wanted == "float16" and model.model_type in NOT_IN_FLOAT16:
        wanted = "bfloat16"
    if wanted == "bfloat16" and accelerator.capability and accelerator.capability < BFLOAT16_CAPABILITY:
        return "float32" if model.model_type in NOT_IN_FLOAT16 else "float16"
    return wanted


@dataclass(frozen=True)
class _Trial:
    """What came of one class."""

    option: Option | None
    closest: Option | None
    rejected: tuple[Rejected, ...]


class _Search:
    """One model and request; weights are summed up once for each layout."""

    def __init__(self, model: Architecture, request: Request) -> None:
        self.model, self.request = model, request
        self.scheme = request.scheme or model.quantization

        @cache
        def model_on(ranks: int) -> Architecture:
            return padded(model, self.scheme, ranks)

        @cache
        def parts(tp: int, dtype: str) -> list[RankPart]:
            return rank_parts(model_on(tp), tp, dtype, self.scheme)

        @cache
        def weight_bytes(tp: int, pp: int, dtype: str) -> int:
            return heaviest_stage(model, parts(tp, dtype), pp).total

        self.model_on, self.weight_bytes = model_on, weight_bytes
        self.corrections = {
            (each.accelerator, each.tensor_parallel, each.pipeline_parallel): each.held_bytes
            for each in request.corrections
        }

    def try_class(self, accelerator: AcceleratorClass, least: int) -> _Trial:
        """The first layout that fits, what was rejected before it, and what came closest."""
        request = self.request
        dtype = serving_dtype(request.dtype, self.model, accelerator)
        base = Candidate(self.model, Layout(request.tensor_parallel or 1, 1, 1), accelerator, dtype, self.scheme)
        if broken := first_broken(base, CLASS_RULES):
            return _Trial(None, None, (_rejected(accelerator, base.layout, broken),))
        found = layouts(base, request.tensor_parallel, request.pipeline_parallel, request.several_nodes)
        rejected = {size: _rejected(accelerator, Layout(size, 1, 1), rule) for size, rule in found.broken}
        tried: list[Rejected] = []
        closest = None
        for layout in found.allowed:
            best = self.best_batch(accelerator, layout, dtype)
            if best.context >= (request.context or least):
                before = [each for size, each in rejected.items() if size < layout.gpus]
                return _Trial(best, None, _telling([*before, *tried]))
            tried.append(_rejected(accelerator, layout, self.too_large(best)))
            closest = max(closest or best, best, key=_closeness)
        return _Trial(None, closest, _telling([*rejected.values(), *tried], closest))

    def best_batch(self, accelerator: AcceleratorClass, layout: Layout, dtype: str) -> Option:
        """With the engine's default batch if that is enough, else with the one that leaves most context."""
        limit = self.request.context or self.model.max_context
        options = [self.option(accelerator, layout, dtype, batch, limit) for batch in self.batches(accelerator)]
        return max(options, key=lambda option: option.context)

    def batches(self, accelerator: AcceleratorClass) -> list[Batch]:
        request = self.request
        default = default_batch(accelerator.usable_bytes, accelerator.product or accelerator.name)
        wanted = [
            Batch(request.batched_tokens or batch.tokens, request.batched_sequences or batch.sequences)
            for batch in (default, SMALL_BATCH)
        ]
        return list(dict.fromkeys(wanted))

    def option(self, accelerator: AcceleratorClass, layout: Layout, dtype: str, batch: Batch, limit: int) -> Option:
        request = self.request
        model, cache_dtype = self.model_on(layout.tensor_parallel), "fp8"
        if request.cache_dtype == "auto":
            cache_dtype = dtype
        load = Load(model, dtype, self.scheme, cache_dtype, request.lora_bytes)
        weights = self.weight_bytes(layout.tensor_parallel, layout.pipeline_parallel, dtype)
        memory = rank_memory(load, weights, layout, accelerator, batch, request.utilization)
        memory = replace(memory, graphs=0) if request.eager else memory
        sizes = accelerator.name, layout.tensor_parallel, layout.pipeline_parallel
        memory = replace(memory, correction=self.corrections.get(sizes, 0))
        context = memory.longest_context(request.concurrency, limit)
        return Option(accelerator, layout, dtype, batch, context, memory)

    def too_large(self, option: Option) -> Rejection:
        memory, request = option.memory, self.request
        context = request.context or min(LEAST_CONTEXT, self.model.max_context)
        needed = memory.cache.needed_bytes(request.concurrency, context)
        return Rejection(
            "Memory",
            f"each GPU needs {gib(memory.held + needed)}: {gib(memory.weights)} of weights, "
            f"{gib(memory.held - memory.weights)} of reserves and {gib(needed)} of KV cache for "
            f"{request.concurrency} x {context} tokens; it has {gib(memory.budget)}, "
            f"{request.utilization:.0%} of {gib(option.accelerator.usable_bytes)}"
            + (f" shared by {option.accelerator.shared_by}" if option.accelerator.shared_by > 1 else ""),
        )


def gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _order(index: int, option: Option) -> tuple[float, ...]:
    return option.layout.gpus, option.layout.nodes, option.accelerator.rank, index


def _not_chosen(option: Option, chosen: Option) -> Rejected:
    layout, best = option.layout, chosen.layout
    if layout.gpus > best.gpus:
        broken = Rejection("MoreGPUs", f"takes {gpus(layout.gpus)}, {chosen.accelerator.name} {best.gpus}")
    elif layout.nodes > best.nodes:
        broken = Rejection("MoreNodes", f"takes {layout.nodes} nodes, {chosen.accelerator.name} {best.nodes}")
    elif option.accelerator.rank > chosen.accelerator.rank:
        broken = Rejection(
            "HigherCost", f"takes {gpus(layout.gpus)} too, and comes after {chosen.accelerator.name} in the cost order"
        )
    else:
        broken = Rejection("LaterInList", f"equal to {chosen.accelerator.name}, which comes first")
    return _rejected(option.accelerator, layout, broken)


def _rejected(accelerator: AcceleratorClass, layout: Layout, broken: Rejection) -> Rejected:
    return Rejected(accelerator.name, layout.tensor_parallel, layout.pipeline_parallel, broken.rule, broken.reason)


def _telling(rejected: list[Rejected], closest: Option | None = None) -> tuple[Rejected, ...]:
    """Each size of tensor parallelism, smallest first, and of the layouts with stages the closest or the largest."""
    plain = sorted((each for each in rejected if each.pipeline_parallel == 1), key=lambda each: each.tensor_parallel)
    staged = [each for each in rejected if each.pipeline_parallel > 1]
    return (*plain, *([each for each in staged if closest and _is_of(each, closest)] or staged[-1:]))


def _no_fit(rejected: tuple[Rejected, ...], trials: list[_Trial]) -> NoFit:
    if not rejected:
        return NoFit("NoAccelerators", "no kind of GPU is known; name one", ())
    options = [trial.closest for trial in trials if trial.closest]
    closest = max(options, key=_closeness, default=None)
    telling = next((each for each in rejected if closest and _is_of(each, closest)), rejected[0])
    where = f"{telling.accelerator}, tensor-parallel size {telling.tensor_parallel}"
    where += f" x {telling.pipeline_parallel} stages" if telling.pipeline_parallel > 1 else ""
    return NoFit(telling.rule, f"{where}: {telling.reason}", rejected, closest)


def _closeness(option: Option) -> tuple[int, ...]:
    """The longest context, then the least that is missing; of equal ones the plainest layout."""
    layout = option.layout
    return option.context, option.memory.left, -layout.pipeline_parallel, layout.gpus


def _is_of(rejected: Rejected, option: Option) -> bool:
    layout = option.layout
    return (rejected.accelerator, rejected.tensor_parallel, rejected.pipeline_parallel, rejected.rule) == (
        option.accelerator.name,
        layout.tensor_parallel,
        layout.pipeline_parallel,
        "Memory",
    )
