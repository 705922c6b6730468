"""Compares a live object with the wanted one and names the first field that differs. Pure.

A live object holds more than we set (defaults, status, other managers' fields), so only what we set is compared.
Lists of named items are matched by name. A field that we once set and no longer do shows as a changed spec hash.
"""

from collections.abc import Iterable
from typing import Any

from ftm_operator.api.quantities import quantity
from ftm_operator.resources.metadata import SPEC_HASH, Manifest

QUANTITY_FIELDS = (".requests.", ".limits.", ".sizeLimit")


def difference(desired: Manifest, live: Manifest | None) -> str | None:
    """Returns in a few words why a child is to be applied; None if it is as wanted."""
    if live is None:
        return "absent"
    annotations = live["metadata"].get("annotations", {})
    if annotations.get(SPEC_HASH) != desired["metadata"]["annotations"][SPEC_HASH]:
        return "the wanted spec changed"
    return drift(desired, live)


def drift(desired: Any, live: Any, path: str = "") -> str | None:
    """Returns the first field in which `live` lacks what `desired` sets, as `spec.replicas: 3, should be 1`."""
    match desired, live:
        case dict(), dict():
            return _first(drift(value, live.get(key), f"{path}.{key}") for key, value in desired.items())
        case list(), list() if len(desired) == len(live) and _named(desired) and _named(live):
            by_name = {item["name"]: item for item in live}
            return _first(drift(item, by_name.get(item["name"]), f"{path}[{item['name']}]") for item in desired)
        case list(), list() if len(desired) == len(live):
            pairs = enumerate(zip(desired, live, strict=True))
            return _first(drift(ours, theirs, f"{path}[{index}]") for index, (ours, theirs) in pairs)
        case _ if desired == live or (_empty(desired) and _empty(live)) or _same_quantity(path, desired, live):
            return None
        case _:
            return f"{path.lstrip('.')}: {live!r}, should be {desired!r}"


def _first(differences: Iterable[str | None]) -> str | None:
    return next((difference for difference in differences if difference), None)


def _named(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and "name" in item for item in items)


def _empty(value: Any) -> bool:
    return value is None or value in ({}, [])


def _same_quantity(path: str, desired: Any, live: Any) -> bool:
    """Tells whether two quantities are the same: the API server writes 1024Mi back as 1Gi."""
    if not any(field in path for field in QUANTITY_FIELDS):
        return False
    try:
        return quantity(desired) == quantity(live)
    except ValueError:
        return False
