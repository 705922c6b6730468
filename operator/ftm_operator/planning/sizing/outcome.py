"""Holds the answers of the sizing: the option that was chosen, those that were rejected, and what is missing."""

from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.rank_memory import RankMemory
from ftm_operator.planning.memory.reserves import Batch
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.request import Request


@dataclass(frozen=True)
class RejectedLayout:
    """A layout on a kind of GPU that does not hold the model, or is not the one that is preferred."""

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
    """The length in tokens."""
    memory: RankMemory


@dataclass(frozen=True)
class Sizing:
    """The choice: what is asked, the option that was taken, and what was rejected."""

    option: Option
    request: Request
    scheme: Scheme
    model: Architecture
    rejected: tuple[RejectedLayout, ...]


@dataclass(frozen=True)
class NoFit:
    """The answer where nothing holds the model: the rejection that says most, and all others."""

    rule: str
    reason: str
    rejected: tuple[RejectedLayout, ...]
    closest: Option | None = None
    """The largest layout, with the context that it would hold; 0 tokens: not even the weights."""


def rejected_layout(accelerator: AcceleratorClass, layout: Layout, broken: Rejection) -> RejectedLayout:
    """Returns the layout on that kind of GPU as rejected by the rule."""
    return RejectedLayout(
        accelerator.name, layout.tensor_parallel, layout.pipeline_parallel, broken.rule, broken.reason
    )


def requests_of(count: int, context: int) -> str:
    """Returns so many requests of that length, with their nouns."""
    return f"1 request of {context} tokens" if count == 1 else f"{count} requests of {context} tokens each"


def gpus(count: int) -> str:
    """Returns the number with its noun."""
    return "1 GPU" if count == 1 else f"{count} GPUs"
