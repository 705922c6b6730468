"""Generates config_defaults.json: what transformers' classes of config.json say of the fields that planning reads.

A class's defaults are those that are written in it: what it works out from other fields, it leaves to them. The share
of each head that is turned by its position is read from a config that says nothing.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import ftm_jobs
from ftm_jobs.contract.config_fields import CARRIED_FIELDS, CONFIG_OBJECTS, SPELLINGS, TABLE, TEXT_OBJECTS

PATH = Path(ftm_jobs.__file__).parent / TABLE
FIELDS = CARRIED_FIELDS - {*SPELLINGS["dtype"], "model_type"}

INHERITED = {field.name: field.default for field in dataclasses.fields(PretrainedConfig)}
"""Fields that every class has, with their usual defaults, which the table leaves out."""


def generate() -> str:
    """Returns the table: a line for each model_type, sorted."""
    classes = dict(_classes())
    lines = [f"{json.dumps(name)}:{_line(row(classes[name]))}" for name in sorted(classes)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def row(config_class: type[PretrainedConfig]) -> dict[str, Any]:
    """Returns the table's entry of a class, without its empty parts."""
    names = {usual: own for usual, own in config_class.attribute_map.items() if FIELDS & {usual, own}}
    parts = {
        "defaults": defaults(config_class) | _rotary_share(config_class),
        "names": names,
        "objects": {name: content for name in _objects(config_class) if (content := _object(config_class, name))},
        "flat": _is_flat(config_class),
    }
    return {name: part for name, part in parts.items() if part}


def defaults(config_class: type[PretrainedConfig]) -> dict[str, Any]:
    """Returns the defaults of the fields that planning reads."""
    fields = FIELDS | {own for usual, own in config_class.attribute_map.items() if usual in FIELDS}
    return {
        field.name: field.default
        for field in dataclasses.fields(config_class)
        if field.name in fields
        and isinstance(field.default, bool | int | float | str)
        and field.default != INHERITED.get(field.name, ...)
    }


def _rotary_share(config_class: Any) -> dict[str, float]:
    """Returns the share of each head that is turned by its position, which classes put into rope_parameters."""
    try:
        share = (getattr(config_class(), "rope_parameters", None) or {}).get("partial_rotary_factor", 1)
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError, StrictDataclassError):
        return {}
    return {"partial_rotary_factor": share} if share != 1 else {}


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _classes() -> Iterator[tuple[str, type[PretrainedConfig]]]:
    for model_type in CONFIG_MAPPING:
        config_class = CONFIG_MAPPING[model_type]
        for part in config_class.sub_configs.values():
            if issubclass(part, PretrainedConfig) and part.model_type not in CONFIG_MAPPING:
                yield part.model_type, part
        yield model_type, config_class


def _objects(config_class: type[PretrainedConfig]) -> list[str]:
    """Returns the objects that a class of several models has in its config.json; none if none is a language model."""
    names = [name for name in CONFIG_OBJECTS if name in config_class.sub_configs]
    return names if set(names) & set(TEXT_OBJECTS) else []


def _object(config_class: Any, name: str) -> dict[str, Any] | None:
    """Returns what a class makes of an empty object: its model_type, and what differs from the defaults of that.

    None: such an object must name its model_type.
    """
    try:
        part = getattr(config_class(**{name: {}}), name)
    except (AttributeError, ImportError, KeyError, ValueError, StrictDataclassError):
        part = config_class.sub_configs[name]
    if not getattr(part, "model_type", None):
        return None
    usual = defaults(part if isinstance(part, type) else type(part))
    different = {
        field: value
        for field, value in vars(part).items()
        if field in usual and value != usual[field] and not isinstance(value, list)
    }
    return {"model_type": part.model_type, **different}


def _is_flat(config_class: Any) -> bool:
    """Says whether the language model's fields may stand beside its object, where that is not there."""
    for name in TEXT_OBJECTS:
        if name in config_class.sub_configs:
            try:
                return bool(getattr(config_class(hidden_size=96), name).hidden_size == 96)
            except (AttributeError, ImportError, KeyError, ValueError, StrictDataclassError):
                return False
    return False


if __name__ == "__main__":
    PATH.write_text(generate(), encoding="utf-8")
