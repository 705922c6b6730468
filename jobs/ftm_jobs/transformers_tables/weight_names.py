"""Reads weight_names.json, which tests/tables/weight_names.py makes of the pinned transformers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ftm_jobs.transformers_tables.transforms import Transform

TABLE = Path(__file__).with_name("weight_names.json")


@dataclass(frozen=True)
class Submodel:
    """A model inside a model, whose class or model type transformers looks up in its table of transforms."""

    path: str
    """Empty for the model itself."""
    class_name: str
    model_type: str
    config: str | None = None
    """Dotted name of config.json's object that describes it."""


@dataclass(frozen=True)
class ModelClass:
    """A class of transformers."""

    prefix: str
    """Its base_model_prefix: where a model with a head has the model without one."""
    submodels: tuple[Submodel, ...]
    parameters: tuple[str, ...]
    """Ends of the paths of its routers that are no Linear, but a parameter of their own."""


def model_class(name: str) -> ModelClass | None:
    """Returns a class by its name; None where transformers has none of that name."""
    entry = _table()["classes"].get(name)
    if entry is None:
        return None
    inner = [Submodel(sub["path"], sub["class"], sub["type"], sub.get("config")) for sub in entry.get("submodels", ())]
    return ModelClass(entry["prefix"], tuple(inner), tuple(entry.get("parameters", ())))


def base_class(model_type: str) -> str | None:
    """Returns the name of the class that AutoModel makes of a model type."""
    name: str | None = _table()["base_classes"].get(model_type)
    return name


def class_of(config: Mapping[str, Any]) -> str:
    """Returns the class that config.json names, or the usual one of its model type where it names none.

    A class that transformers does not have is code of the model's own: it shares no names with another.
    """
    named = config.get("architectures")
    if isinstance(named, list) and named:
        return str(named[0])
    usual: str = _table()["usual_classes"].get(str(config.get("model_type")), "")
    return usual


def prefixes() -> frozenset[str]:
    """Returns the base_model_prefix of every class."""
    return frozenset(entry["prefix"] for entry in _table()["classes"].values() if entry["prefix"])


@cache
def classes_around(name: str) -> tuple[str, ...]:
    """Returns the classes that have class `name` inside."""
    return tuple(
        outer
        for outer, entry in _table()["classes"].items()
        if any(sub["class"] == name and sub.get("config") for sub in entry.get("submodels", ()))
    )


def submodels(architecture: str, config: Mapping[str, Any]) -> tuple[Submodel, ...]:
    """Returns a model and what is inside, outer before inner, as config.json names them.

    AutoModel makes a submodel where its class is AutoModel's for its model type: config.json may choose another.
    """
    return (
        Submodel("", architecture, str(config.get("model_type") or "")),
        *_chosen(model_class(architecture), config),
    )


def transforms(architecture: str, config: Mapping[str, Any]) -> tuple[Transform, ...]:
    """Returns what transformers does to the names of a model, in its order (get_model_conversion_mapping)."""
    outer = model_class(architecture)
    prefix = outer.prefix if outer else ""
    seen: dict[str, list[str]] = {}

    def is_seen(key: str, path: str) -> bool:
        return any(not claimed or path.startswith(f"{claimed}.") for claimed in seen.get(key, ()))

    found: list[Transform] = []
    for submodel in submodels(architecture, config):
        if is_seen(submodel.class_name, submodel.path):
            continue
        of_class = of_key(submodel.class_name)
        if of_class is None and is_seen(submodel.model_type, submodel.path):
            continue
        own = of_class if of_class is not None else of_key(submodel.model_type)
        if own is None:
            continue
        if submodel.path:
            scope = submodel.path.removeprefix(prefix).removeprefix(".")
            own = tuple(replace(transform, scope=scope, prefix=prefix) for transform in own)
        found += own
        seen.setdefault(submodel.class_name, []).append(submodel.path)
        if of_class is None and submodel.model_type:
            seen.setdefault(submodel.model_type, []).append(submodel.path)
    return (*found, *(of_key("legacy") or ()))


@cache
def of_key(key: str) -> tuple[Transform, ...] | None:
    """Returns the transforms of a class or a model type; None where the table has none."""
    entries = _table()["mappings"].get(key)
    if isinstance(entries, str):
        return of_key(entries)
    if entries is None:
        return None
    return tuple(
        Transform(
            tuple(entry["from"]),
            tuple(entry["to"]),
            tuple(entry.get("operations", ())),
            entry.get("together", False),
        )
        for entry in entries
    )


def _chosen(outer: ModelClass | None, config: Mapping[str, Any]) -> Iterator[Submodel]:
    replaced: list[str] = []
    for submodel in outer.submodels if outer else ():
        if any(submodel.path.startswith(f"{path}.") for path in replaced):
            continue
        model_type = _model_type(config, submodel.config)
        chosen = base_class(model_type) if model_type else None
        is_auto = base_class(submodel.model_type) == submodel.class_name
        inner = model_class(chosen) if chosen and is_auto and model_type != submodel.model_type else None
        if not (inner and chosen and model_type):
            yield submodel
            continue
        replaced.append(submodel.path)
        yield Submodel(submodel.path, chosen, model_type, submodel.config)
        for deeper in inner.submodels:
            yield replace(deeper, path=f"{submodel.path}.{deeper.path}", config=None)


def _model_type(config: Mapping[str, Any], path: str | None) -> str | None:
    content: Any = config
    for name in path.split(".") if path else ():
        content = content.get(name) if isinstance(content, Mapping) else None
    found = content.get("model_type") if path and isinstance(content, Mapping) else None
    return found if isinstance(found, str) else None


@cache
def _table() -> dict[str, Any]:
    return dict(json.loads(TABLE.read_text()))
