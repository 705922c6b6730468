"""Manifests to start from, as a user writes them."""

import copy
from typing import Any

Manifest = dict[str, Any]

MINIMAL: Manifest = {
    "apiVersion": "ftm.dev/v1alpha1",
    "kind": "FineTunedModel",
    "metadata": {"name": "support-bot"},
    "spec": {
        "base": {"uri": "hf://mistralai/Mistral-7B-v0.1"},
        "adapters": [{"name": "support", "uri": "s3://models/adapters/support-v2"}],
    },
}


def minimal(name: str = "support-bot") -> Manifest:
    manifest = copy.deepcopy(MINIMAL)
    manifest["metadata"]["name"] = name
    return manifest


def manifest_with(field: str, value: Any, name: str = "support-bot") -> Manifest:
    """The smallest manifest with one field set: `spec.serving.env[0].name`."""
    manifest = minimal(name)
    *way, last = field.replace("]", "").replace("[", ".").split(".")
    here: Any = manifest
    for part, following in zip(way, [*way, last][1:], strict=True):
        here = _step(here, part, [] if following.isdigit() else {})
    if isinstance(here, list):
        here[int(last) :] = [value]
    else:
        here[last] = value
    return manifest


def _step(here: Any, part: str, empty: Any) -> Any:
    if isinstance(here, dict):
        return here.setdefault(part, empty)
    if int(part) == len(here):
        here.append(empty)
    return here[int(part)]
