"""Holds the records that go into a pass over one FineTunedAdapter. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_operator.reconcile.passes import ObservedChildren
from ftm_operator.resources.metadata import Manifest


@dataclass(frozen=True, kw_only=True)
class ObservedAdapter(ObservedChildren):
    """The objects of a namespace that a pass over a FineTunedAdapter reads."""

    model: Manifest | None
    """The FineTunedModel that it names."""
    rivals: Sequence[Manifest] = ()
    """The other FineTunedAdapters of that model that may want its name."""
