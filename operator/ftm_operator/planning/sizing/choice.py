"""Chooses the GPUs of a model, over all kinds that there are; says what was rejected, and why.

The rule, for every model alike: the smallest number of GPUs that holds the weights, the reserves and the KV cache of
`concurrency` sequences at the full wanted context; then the fewest nodes; then the cost order of accelerators.py; then
the order in which the classes are given.

Without a wanted context it is the longest that fits, up to the model's own limit and rounded down to a block, on the
smallest number of GPUs that holds LEAST_CONTEXT (or any context at all, if none holds that).

Examples: Mistral-7B-v0.1 in float16 at 4096 tokens takes one A10G: 13.49 GiB of weights, 2.2 of reserves and 4.0 of KV
cache in 92 % of 22.06. At 8192 it takes two. Llama-3.1-70B in bfloat16 at 8192 takes four A100-80: two would need
65.7 + 10 GiB each, and 64 heads do not divide by 3.
"""

from collections.abc import Sequence

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.rules.context_length import context_length
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.outcome import NoFit, Option, RejectedLayout, Sizing, gpus, rejected_layout
from ftm_operator.planning.sizing.request import Request
from ftm_operator.planning.sizing.search import LEAST_CONTEXT, Search, Trial, closeness, is_option


def size(model: Architecture, request: Request, classes: Sequence[AcceleratorClass]) -> Sizing | NoFit:
    """Returns the choice over all classes, or why there is none."""
    if too_long := context_length(request.context, model.max_context):
        return NoFit(too_long.rule, too_long.reason, ())
    search = Search(model, request)
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


def _order(index: int, option: Option) -> tuple[float, ...]:
    return option.layout.gpus, option.layout.nodes, option.accelerator.rank, index


def _not_chosen(option: Option, chosen: Option) -> RejectedLayout:
    layout, best, chosen_name = option.layout, chosen.layout, chosen.accelerator.name
    if layout.gpus > best.gpus:
        broken = Rejection("MoreGPUs", f"needs {gpus(layout.gpus)}, and {chosen_name} needs {gpus(best.gpus)}")
    elif layout.nodes > best.nodes:
        broken = Rejection("MoreNodes", f"needs {layout.nodes} nodes, and {chosen_name} needs {best.nodes}")
    elif option.accelerator.rank > chosen.accelerator.rank:
        broken = Rejection(
            "HigherCost", f"needs {gpus(layout.gpus)} as well, and comes after {chosen_name} in the cost order"
        )
    else:
        broken = Rejection("LaterInList", f"needs and costs as much as {chosen_name}, which is listed first")
    return rejected_layout(option.accelerator, layout, broken)


def _no_fit(rejected: tuple[RejectedLayout, ...], trials: list[Trial]) -> NoFit:
    if not rejected:
        return NoFit("NoAccelerators", "no kind of GPU is known; name one", ())
    options = [trial.closest for trial in trials if trial.closest]
    closest = max(options, key=closeness, default=None)
    telling = next((each for each in rejected if closest and is_option(each, closest)), rejected[0])
    where = f"{telling.accelerator}, tensor-parallel size {telling.tensor_parallel}"
    where += f" and {telling.pipeline_parallel} pipeline stages" if telling.pipeline_parallel > 1 else ""
    return NoFit(telling.rule, f"{where}: {telling.reason}", rejected, closest)
