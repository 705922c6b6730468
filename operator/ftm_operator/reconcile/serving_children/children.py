"""Finds the children that serve a model. Pure."""

from ftm_operator.reconcile.passes import Context
from ftm_operator.resources.metadata import Manifest, belongs_to
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET


def owned_serving(context: Context) -> list[Manifest]:
    """Returns the children that serve the model now, which are two while one kind takes over from the other."""
    children = (context.observed.deployment, context.observed.leader_worker_set)
    return [child for child in children if child and belongs_to(child, context.model)]


def serving_children(context: Context, kind: str) -> tuple[Manifest | None, Manifest | None]:
    """Returns the live child of the wanted kind, and the one of the other kind that is still there from before."""
    live, other = context.observed.deployment, context.observed.leader_worker_set
    if kind == LEADER_WORKER_SET:
        live, other = other, live
    stays = other and belongs_to(other, context.model) and "deletionTimestamp" not in other["metadata"]
    return live, other if stays else None
