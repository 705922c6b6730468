"""Reads the conditions in an object's status. Pure."""

from ftm_operator.resources.metadata import Manifest


def true_condition(item: Manifest, kind: str) -> Manifest | None:
    """Returns the condition of this type, if it is there and True."""
    conditions: list[Manifest] = (item.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind and each.get("status") == "True"), None)
