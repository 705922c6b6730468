"""Which layouts of a model on a kind of GPU are worth trying, in the order in which they are preferred.

Inside a node the ranks of tensor parallelism come first: every size that breaks no rule. Pipeline stages inside a node
are tried for at least as many GPUs as the largest such size, so only where rules block tensor parallelism (71 heads) or
the node's GPUs are not enough otherwise. Over several nodes the stages run across and tensor parallelism inside,
and only for more GPUs than one node has. Fewer GPUs come first, then fewer nodes, then fewer stages.

Which layouts there are depends on the rules alone, not on memory or context. So a model that needs less never gets
more GPUs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.rank import Layout
from ftm_operator.planning.model.padding import padded
from ftm_operator.planning.rules.constraints import LAYOUT_RULES, TENSOR_PARALLEL_RULES, Candidate, first_broken
from ftm_operator.planning.rules.tensor_parallel import Rejection

MOST_NODES = 16
"""A replica over more is not tried."""


@dataclass(frozen=True)
class Layouts:
    """What may be tried, and which tensor-parallel sizes rules forbid."""

    allowed: tuple[Layout, ...]
    broken: tuple[tuple[int, Rejection], ...]
    """Tensor-parallel sizes with the first rule that each breaks."""


def layouts(base: Candidate, asked_tp: int | None, asked_pp: int | None, several_nodes: bool) -> Layouts:
    """`base` is the model on the kind of GPU; its own layout is of no account."""
    sizes = [asked_tp] if asked_tp else list(range(1, base.accelerator.per_node + 1))
    broken, valid = [], []
    for size in sizes:
        found = first_broken(_with(base, Layout(size, 1, 1)), (*LAYOUT_RULES, *TENSOR_PARALLEL_RULES))
        if found:
            broken.append((size, found))
        else:
            valid.append(size)
    every = _all(valid, base.accelerator, several_nodes) if valid else ()
    allowed = [
        layout
        for layout in every
        if (asked_pp is None or layout.pipeline_parallel == asked_pp)
        and first_broken(_with(base, layout), LAYOUT_RULES) is None
    ]
    ordered = sorted(set(allowed), key=lambda layout: (layout.gpus, layout.nodes, layout.pipeline_parallel))
    return Layouts(tuple(ordered), tuple(broken))


def _all(valid: list[int], accelerator: AcceleratorClass, several_nodes: bool) -> Iterator[Layout]:
    largest, per_node = max(valid), accelerator.per_node
    for tp in valid:
        yield Layout(tp, 1, 1)
        for stages in range(2, per_node // tp + 1):
            if tp * stages >= largest:
                yield Layout(tp, stages, 1)
        for nodes in _node_counts(accelerator.nodes) if several_nodes else ():
            for stages in range(1, per_node // tp + 1):
                if tp * stages * nodes > per_node and (stages == 1 or tp * stages >= largest):
                    yield Layout(tp, stages * nodes, nodes)


def _node_counts(nodes: int) -> Iterable[int]:
    return range(2, min(nodes, MOST_NODES) + 1)


def _with(base: Candidate, layout: Layout) -> Candidate:
    model = padded(base.model, base.scheme, layout.tensor_parallel)
    return Candidate(model, layout, base.accelerator, base.dtype, base.scheme)
