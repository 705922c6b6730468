"""Reads who sets a child's number of replicas, as its managed fields tell. Pure.

An apply that leaves out a field which nobody else owns resets it, so the owners are to be known before the operator
leaves `spec.replicas` to others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ftm_operator.resources.metadata import MANAGER, Manifest

KEEPER = f"{MANAGER}-replicas"
"""The field manager that holds a number of replicas between the operator and what scales."""
_REPLICAS: Manifest = {"f:spec": {"f:replicas": {}}}


@dataclass(frozen=True)
class ReplicaOwner:
    """A field manager that owns the number of replicas."""

    manager: str
    scales: bool
    """It set the number through the scale subresource, as autoscalers and `kubectl scale` do."""


def owns_replicas(managed: Any) -> list[Manifest]:
    """Returns the entries of metadata.managedFields that own spec.replicas, without what else they own."""
    return [{**entry, "fieldsV1": _REPLICAS} for entry in _entries(managed)]


def replica_owners(child: Manifest) -> list[ReplicaOwner]:
    """Returns the owners of a child's number of replicas."""
    managed = child["metadata"].get("managedFields")
    return [ReplicaOwner(str(entry.get("manager")), entry.get("subresource") == "scale") for entry in _entries(managed)]


def scaling_manager(child: Manifest) -> str | None:
    """Returns who scales a child by its scale subresource, if somebody does."""
    return next((owner.manager for owner in replica_owners(child) if owner.scales), None)


def is_only_ours(child: Manifest) -> bool:
    """Tells whether an apply without a number of replicas would reset it."""
    return [owner.manager for owner in replica_owners(child)] == [MANAGER]


def _entries(managed: Any) -> Iterable[Manifest]:
    for entry in managed if isinstance(managed, list) else ():
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:replicas" in spec:
            yield entry
