"""Holds what a pass decides about children around serving pods. Pure."""

from dataclasses import dataclass
from functools import partial

from ftm_operator.observe.drift import difference
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Apply, Context, Delete
from ftm_operator.resources.metadata import Manifest, belongs_to


@dataclass(frozen=True)
class Around:
    """The writes of children around what serves, and what is to be said of them."""

    actions: tuple[Apply | Delete, ...] = ()
    words: str = ""
    hold: Hold | None = None
    """The reason for which they are not as the spec says."""


def applied(context: Context, wanted: Manifest, live: Manifest | None) -> tuple[Apply, ...]:
    """Returns the apply of a child that is absent or differs.

    One of somebody else's counts as absent: it is found when the child is to be made, and refused by its name.
    """
    own = live if live and belongs_to(live, context.model) else None
    why = difference(wanted, own, partial(context.observed.contested, wanted["kind"], wanted["metadata"]["name"]))
    return (Apply(wanted, why),) if why else ()


def deleted(context: Context, *children: Manifest | None) -> tuple[Delete, ...]:
    """Returns the deletion of those children that are the model's and not on their way out."""
    return tuple(
        Delete(child)
        for child in children
        if child and belongs_to(child, context.model) and "deletionTimestamp" not in child["metadata"]
    )
