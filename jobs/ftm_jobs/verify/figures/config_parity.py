"""Compares a model's config with the one it was made from: nothing that changes the arithmetic may be lost.

Tools that save a config again drop what their version does not know (rope settings above all: transformers 5 writes
rope_parameters, which 4.x ignores, and 4.x writes rope_theta with its own default). Every field of the original must
be there with its value; rope is compared in every spelling that the new config has, since another reader takes
another one. Pure: parsed JSON comes in.
"""

import json
from collections.abc import Mapping
from typing import Any

from ftm_jobs.verify.figures.difference import Difference

_IGNORED = {
    "_name_or_path",
    "_attn_implementation",
    "attn_implementation",
    "auto_map",
    "dtype",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
"""Fields that may change: they say how numbers are stored, not what they mean."""
_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")
_PADDED = {"intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"}
"""Widths that may grow, by columns of zeros."""
_DEFAULTS: dict[str, Any] = {"rope_type": "default"}


def differences(original: Mapping[str, Any], made: Mapping[str, Any], where: str = "config.json") -> list[Difference]:
    """Returns how the configs differ; `where` names the file in sentences."""
    differing = []
    for name, value in original.items():
        if name in _IGNORED or name in _ROPE:
            continue
        other = made.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            differing += differences(value, other, f"{where} {name}")
        elif name not in made and value is not None:
            differing.append(Difference(f"{where} {name}", _shown(value), "lost"))
        elif other != value and not _grew(name, value, other):
            differing.append(Difference(f"{where} {name}", _shown(value), _shown(other)))
    return differing + _rope_differences(original, made, where)


def _rope_differences(original: Mapping[str, Any], made: Mapping[str, Any], where: str) -> list[Difference]:
    wanted = _rope(original)
    given = {spelling: settings for spelling, settings in _spellings(made).items() if settings}
    if wanted and not given:
        return [Difference(f"{where} rope settings", _shown(wanted), "lost")]
    differing = []
    for spelling, settings in given.items():
        for name, value in wanted.items():
            if settings.get(name, _DEFAULTS.get(name)) != value:
                differing.append(
                    Difference(f"{where} {spelling} {name}", _shown(value), _shown(settings.get(name, "lost")))
                )
        differing += [
            Difference(f"{where} {spelling} {name}", "absent", _shown(value))
            for name, value in settings.items()
            if wanted and name not in wanted and _DEFAULTS.get(name) != value
        ]
    return differing


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the original's own settings, in either spelling; rope_parameters where it has both."""
    spellings = _spellings(config)
    return spellings["rope_parameters"] or spellings["rope_theta and rope_scaling"]


def _spellings(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    old: dict[str, Any] = {}
    scaling = config.get("rope_scaling")
    if isinstance(scaling, dict):
        old |= {("rope_type" if name == "type" else name): value for name, value in scaling.items()}
    if config.get("rope_theta") is not None:
        old["rope_theta"] = config["rope_theta"]
    new = config.get("rope_parameters")
    return {
        "rope_parameters": _without_defaults(new if isinstance(new, dict) else {}),
        "rope_theta and rope_scaling": _without_defaults(old),
    }


def _without_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _DEFAULTS or value != _DEFAULTS[name]}


def _grew(name: str, value: Any, other: Any) -> bool:
    return name in _PADDED and isinstance(value, int) and isinstance(other, int) and other > value


def _shown(value: Any) -> str:
    text = value if value == "lost" else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:80]}…"
