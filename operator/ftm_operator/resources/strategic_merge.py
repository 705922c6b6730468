"""Merges a part of a pod's template over a whole one, as Kubernetes' strategic merge patch does. Pure.

Maps are merged field by field, lists of the fields in KEYS item by item, and every other list is replaced. An item that
names its source (a volume, a variable) is replaced as well, since it can have only one. Source of the keys:
patchMergeKey and patchStrategy in k8s.io/api, core/v1/types.go.
"""

from collections.abc import Sequence
from typing import Any

from ftm_operator.api.spec.pod_template import DIRECTIVE

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
"""The keys by which the items of lists are told apart, by the lists' fields."""
REPLACED = {"volumes", "env", "resourceClaims"}
"""The lists whose items have one source each, so that one item takes the place of another."""


def merged(built: Any, patch: Any, field: str = "") -> Any:
    """Returns `built` with what `patch` says of it; neither is changed."""
    match built, patch:
        case _, dict():
            return _merged_map(built if isinstance(built, dict) and patch.get(DIRECTIVE) != "replace" else {}, patch)
        case list(), list() if (key := KEYS.get(field)) and _keyed([*built, *patch], key):
            return _merged_list(built, patch, key, whole=field in REPLACED)
        case _:
            return patch


def _merged_map(built: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(built)
    for name, value in patch.items():
        if isinstance(value, dict) and value.get(DIRECTIVE) == "delete":
            result.pop(name, None)
        elif name != DIRECTIVE:
            result[name] = merged(built.get(name), value, name)
    return result


def _merged_list(
    built: Sequence[dict[str, Any]], patch: Sequence[dict[str, Any]], key: str, *, whole: bool
) -> list[dict[str, Any]]:
    """Returns the items of `built`, changed, and then those that `patch` adds."""
    changes = {item[key]: item for item in patch}
    kept = [merged({} if whole else item, changes.pop(item[key])) if item[key] in changes else item for item in built]
    return [*kept, *(merged({}, item) for item in patch if item[key] in changes)]


def _keyed(items: Sequence[Any], key: str) -> bool:
    return all(isinstance(item, dict) and isinstance(item.get(key), str | int) for item in items)
