"""Compares a live object with the wanted one and names the fields that differ. Pure.

A live object holds more than we set (defaults, status, other managers' fields and items), so only what we set is
compared. Items of lists that Kubernetes merges by a key are matched by that key. A field that we once set and no
longer do shows as a changed spec hash.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ftm_operator.api.quantities import quantity
from ftm_operator.resources.metadata import SPEC_HASH, Manifest

QUANTITY_FIELDS = (".requests.", ".limits.", ".sizeLimit")
ABSENT = "absent"
_KEYS = {"volumeMounts": ("mountPath",), "ports": ("containerPort", "port")}
"""The keys of items, by their list's field; those of every other list of objects with names are the names."""
_SECRET = ".env["
"""Part of the path of what may hold a password, whose value no log may hold."""


def difference(
    desired: Manifest, live: Manifest | None, contested: Callable[[str], bool] = lambda _: False
) -> str | None:
    """Returns in a few words why a child is to be applied; None if it is as wanted.

    `contested` tells of a difference, as `differences` words it, whether another apply would only go on with a fight.
    """
    if live is None:
        return ABSENT
    annotations = live["metadata"].get("annotations", {})
    if annotations.get(SPEC_HASH) != desired["metadata"]["annotations"][SPEC_HASH]:
        return "the wanted spec changed"
    return next((found for found in differences(desired, live) if not contested(found)), None)


def differences(desired: Any, live: Any, path: str = "") -> Iterator[str]:
    """Yields the fields in which `live` lacks what `desired` sets, as `spec.replicas: 3, should be 1`."""
    match desired, live:
        case dict(), dict():
            for name, value in desired.items():
                yield from differences(value, live.get(name), f"{path}.{name}")
        case list(), list() if desired and (key := _key(path, [*desired, *live])):
            by_key = {item[key]: item for item in live}
            for item in desired:
                yield from differences(item, by_key.get(item[key]), f"{path}[{item[key]}]")
        case list(), list() if len(desired) == len(live):
            for index, (ours, theirs) in enumerate(zip(desired, live, strict=True)):
                yield from differences(ours, theirs, f"{path}[{index}]")
        case _ if desired == live or (_empty(desired) and _empty(live)) or _same_quantity(path, desired, live):
            return
        case _:
            values = "is not as wanted" if _SECRET in path else f"{live!r}, should be {desired!r}"
            yield f"{path.lstrip('.')}: {values}"


def _key(path: str, items: list[Any]) -> str | None:
    """Returns the field that tells the items of a list apart; None where their order does."""
    for key in _KEYS.get(path.rpartition(".")[2], ("name",)):
        if all(isinstance(item, dict) and key in item for item in items):
            return key
    return None


def _empty(value: Any) -> bool:
    return value is None or value in ({}, [], "")


def _same_quantity(path: str, desired: Any, live: Any) -> bool:
    """Tells whether two quantities are the same: the API server writes 1024Mi back as 1Gi."""
    if not any(field in path for field in QUANTITY_FIELDS):
        return False
    try:
        return quantity(desired) == quantity(live)
    except ValueError:
        return False
