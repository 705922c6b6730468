"""Writes config.json of a quantized model, and translates it for an older transformers. Pure: bytes and JSON come in.

What is written is the merged model's config.json byte for byte, but for a quantization_config and the widths that were
padded: a file that another version of transformers writes anew loses what that version does not know.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftm_jobs.errors import InvalidInput, Reason

QUANTIZATION = "quantization_config"
_DECODER = json.JSONDecoder()
_KEY = re.compile(r'[\s,]*("(?:[^"\\]|\\.)*")\s*:\s*')


def quantized_config(text: bytes, quantization: Mapping[str, Any], widths: Mapping[str, int]) -> bytes:
    """Returns config.json with these widths, by dotted names, and this quantization_config; other bytes stay.

    Raises InvalidInput (InvalidConfig) where a width cannot be changed in place.
    """
    edited = text.decode("utf-8")
    for name, width in widths.items():
        places = list(_places(edited, name.split(".")))
        if len(places) != 1:
            raise InvalidInput(
                Reason.INVALID_CONFIG,
                f"config.json has {name} {len(places)} times, so that it cannot be changed: keep one",
            )
        edited = f"{edited[: places[0][0]]}{width}{edited[places[0][1] :]}"
    body, brace, end = edited.rpartition("}")
    content = body.rstrip()
    gap = body[len(content) :]
    indent = re.match(r"\{(\s*)\"", content)
    before = indent[1] if indent else ""
    value = json.dumps(quantization, indent=2) if "\n" in before else json.dumps(quantization)
    value = value.replace("\n", before if "\n" in before else "\n")
    comma = "" if content.endswith("{") else ","
    result = f'{content}{comma}{before}"{QUANTIZATION}": {value}{gap}{brace}{end}'
    expected = {**with_widths(json.loads(text), widths), QUANTIZATION: dict(quantization)}
    if json.loads(result) != expected:
        raise InvalidInput(Reason.INVALID_CONFIG, "config.json cannot be edited in place: write it without duplicates")
    return result.encode("utf-8")


def with_widths(config: Mapping[str, Any], widths: Mapping[str, int]) -> dict[str, Any]:
    """Returns the config with these fields changed, by dotted names."""
    changed = dict(config)
    for name, width in widths.items():
        field, _, inner = name.partition(".")
        changed[field] = with_widths(changed[field], {inner: width}) if inner else width
    return changed


def _places(text: str, path: list[str], start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields start and end of a field's values, in the JSON object that begins at or after `start`."""
    field, *inner = path
    at = text.index("{", start) + 1
    while key := _KEY.match(text, at):
        begin = key.end()
        _, end = _DECODER.raw_decode(text, begin)
        if json.loads(key[1]) == field:
            yield from _places(text, inner, begin) if inner else [(begin, end)]
        at = end


def loadable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config in transformers 4's names: it ignores rope_parameters and dtype without a word.

    Raises InvalidInput (UnsupportedModel) for rope settings that transformers 4 has no name for.
    """
    loadable = dict(config)
    loadable.pop(QUANTIZATION, None)
    if "dtype" in loadable:
        loadable["torch_dtype"] = loadable.pop("dtype")
    rope = loadable.pop("rope_parameters", None)
    if rope is None:
        return loadable
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            "config.json has rope_parameters by kind of layer, which AutoAWQ's transformers does not know: "
            "write quantization.awq.engine: LLMCompressor",
        )
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            loadable[name] = rope[name]
    if scaling.get("rope_type", "default") != "default":
        loadable["rope_scaling"] = scaling
    return loadable
