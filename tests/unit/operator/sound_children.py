"""The promises of every child that a pass applies: names, labels and sizes that an API server and a kernel take."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.unit.operator.objects import Manifest

LABEL_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.I)
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
MOST_ANNOTATIONS = 256 * 1024
MOST_ARGUMENT = 128 * 1024
MOST_OBJECT = 1024 * 1024
PYTHON = re.compile(
    r"Traceback|NoneType|<class|<enum|object at 0x|\{'|\['|\b[A-Z]\w+\.[A-Z_]{3,}\b|\bnan\b|Decimal\(|validation error"
    r"|(?<!or )(?<!to )(?<!method )(?<!write )(?<!, )\bNone\b"
)
"""Words of Python that no message holds; None is a method of quantization and a kind of preview as well."""


def faults(child: Manifest) -> list[str]:
    """Returns a sentence for each promise that a child breaks."""
    found = [] if LABEL_NAME.fullmatch(child["metadata"]["name"]) else [f"name {child['metadata']['name']}"]
    for metadata in _metadata(child):
        found += [f"label {pair}" for pair in (metadata.get("labels") or {}).items() if not _is_label(*pair)]
        annotations = metadata.get("annotations") or {}
        found += [f"annotation {key}" for key in annotations if not QUALIFIED.fullmatch(key)]
        size = sum(len(text.encode()) for pair in annotations.items() for text in pair)
        found += [f"annotations of {size} bytes"] if size > MOST_ANNOTATIONS else []
        found += [
            f"annotation {key} is a {type(text).__name__}" for key, text in annotations.items() if type(text) is not str
        ]
    for container in _containers(child):
        words = [*container.get("command", ()), *container.get("args", ())]
        words += [f"{each['name']}={each.get('value', '')}" for each in container.get("env", ())]
        found += [
            f"{container['name']}: {word[:40]} of {size}"
            for word in words
            if (size := len(word.encode())) > MOST_ARGUMENT
        ]
        found += _twice(f"{container['name']}: env", [each["name"] for each in container.get("env", ())])
        found += _twice(
            f"{container['name']}: mounts", [each["mountPath"] for each in container.get("volumeMounts", ())]
        )
    for spec in _pod_specs(child):
        found += _twice("volumes", [each["name"] for each in spec.get("volumes", ())])
        found += _twice("containers", [each["name"] for each in (*spec["containers"], *spec.get("initContainers", ()))])
    if len(json.dumps(child, ensure_ascii=False).encode()) > MOST_OBJECT:
        found.append("more than 1 MiB")
    return found


def _is_label(key: str, value: Any) -> bool:
    return bool(QUALIFIED.fullmatch(key)) and isinstance(value, str) and bool(LABEL_VALUE.fullmatch(value))


def _twice(place: str, names: list[str]) -> list[str]:
    return [f"{place}: {name} twice" for name in sorted({name for name in names if names.count(name) > 1})]


def _templates(child: Manifest) -> Iterator[Manifest]:
    spec = child.get("spec", {})
    groups = spec.get("leaderWorkerTemplate", {})
    for template in (spec.get("template"), groups.get("leaderTemplate"), groups.get("workerTemplate")):
        if template:
            yield template


def _metadata(child: Manifest) -> Iterator[Manifest]:
    yield child["metadata"]
    for template in _templates(child):
        yield template.get("metadata") or {}


def _pod_specs(child: Manifest) -> Iterator[Manifest]:
    for template in _templates(child):
        if "containers" in template.get("spec", {}):
            yield template["spec"]


def _containers(child: Manifest) -> Iterator[Manifest]:
    for spec in _pod_specs(child):
        yield from (*spec["containers"], *spec.get("initContainers", ()))
