"""Lists the layouts of a model on a kind of GPU that are worth trying, in the order in which they are preferred.

Inside a node the ranks of tensor parallelism come first: every size that breaks no rule. Pipeline stages inside a node
are tried for at least as many GPUs as the largest such size, so only where rules block tensor parallelism (71 heads) or
the node's GPUs are not enough otherwise. Over several nodes the stages run across and tensor parallelism inside,
and only for more GPUs than one node has. Fewer GPUs come first, then fewer nodes, then fewer stages.

Which layouts there are depends on the rules alone, not on memory or context. So a model that needs less never gets
more GPUs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.placement import LAYOUT_RULES, SIZE_RULES, Candidate, first_broken
from ftm_operator.planning.rules.rejection import Rejection

MOST_NODES = 16
"""Nodes of the largest replica that is tried."""


@dataclass(frozen=True)
class Layouts:
    """The layouts that may be tried, and the tensor-parallel sizes that rules forbid."""

    allowed: tuple[Layout, ...]
    broken: tuple[tuple[int, Rejection], ...]
    """Tensor-parallel sizes with the first rule that each breaks."""


def layouts(base: Candidate, asked_tp: int | None, asked_pp: int | None, several_nodes: bool) -> Layouts:
    """Returns the layouts of the model on the kind of GPU that `base` names; the layout in it is of no account."""
    sizes = [asked_tp] if asked_tp else list(range(1, base.accelerator.per_node + 1))
    broken, valid = [], []
    for size in sizes:
        rejection = first_broken(replace(base, layout=Layout(size, 1, 1)), SIZE_RULES)
        if rejection:
            broken.append((size, rejection))
        else:
            valid.append(size)
    every = _all(valid, base.accelerator, several_nodes) if valid else ()
    allowed = [
        layout
        for layout in every
        if (asked_pp is None or layout.pipeline_parallel == asked_pp)
        and first_broken(replace(base, layout=layout), LAYOUT_RULES) is None
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
