"""Parses adapter_config.json of a LoRA adapter. Pure: parsed JSON comes in."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ftm_jobs.checkpoint.refusals.adapter_kinds import refuse_other_kinds, shown
from ftm_jobs.errors import InvalidInput, Reason

ADAPTER_CONFIG_FILE = "adapter_config.json"


@dataclass(frozen=True)
class AdapterConfig:
    rank: int
    alpha: float
    rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    dora: bool = False
    lora_bias: bool = False
    bias: str = "none"
    modules_to_save: tuple[str, ...] = ()
    target_parameters: tuple[str, ...] = ()
    token_indices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Rows that were trained, by the embedding's name; "" is the input embedding."""
    ensure_weight_tying: bool = False
    peft_version: str | None = None
    """The version of PEFT that saved it, as in 0.18.1; None when it does not say, as before 0.18."""
    base_name: str = ""
    """The base that it was trained on, as its trainer named it: a repository or a path."""
    mica: bool = False
    """Minor Component Adaptation: PEFT rounds its product before adding it (peft/tuners/lora/variants.py)."""
    task_type: str | None = None
    """PEFT's name of what it was trained for, as in CAUSAL_LM; None when it does not say."""

    def rank_of(self, module: str) -> int:
        return self.rank_pattern.get(_first_match(self.rank_pattern, module), self.rank)

    def scaling_of(self, module: str, scale: float = 1.0) -> float:
        """scale·alpha/r, or scale·alpha/√r with rsLoRA, in PEFT's order (peft/tuners/lora/layer.py, set_scale)."""
        alpha = self.alpha_pattern.get(_first_match(self.alpha_pattern, module), self.alpha)
        rank = self.rank_of(module)
        return scale * alpha / (math.sqrt(rank) if self.rslora else rank)


def parse_adapter_config(label: str, config: Mapping[str, Any]) -> AdapterConfig:
    """Raises InvalidInput: UnsupportedAdapter naming the field and what to do, or InvalidConfig."""
    refuse_other_kinds(label, config)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _is_rank(rank):
        _invalid(label, "r", rank, "a positive whole number")
    if not _is_alpha(alpha):
        _invalid(label, "lora_alpha", alpha, "a finite number")
    rslora = config.get("use_rslora", False)
    if not isinstance(rslora, bool):
        _invalid(label, "use_rslora", rslora, "true or false")
    patterns: dict[str, dict[str, Any]] = {}
    for name, accepts in (("rank_pattern", _is_rank), ("alpha_pattern", _is_alpha)):
        pattern = config.get(name) or {}
        if not isinstance(pattern, dict) or not all(accepts(value) for value in pattern.values()):
            _invalid(label, name, pattern, "a map of layer names to numbers")
        for key in pattern:
            try:
                re.compile(rf"(.*\.)?({key})$")
            except re.error as error:
                _invalid(label, name, key, f"a regular expression ({error})")
        patterns[name] = pattern
    assert isinstance(rank, int)
    assert isinstance(alpha, int | float)
    return AdapterConfig(
        rank,
        alpha,
        rslora,
        patterns["rank_pattern"],
        patterns["alpha_pattern"],
        dora=_flag(label, config, "use_dora"),
        lora_bias=_flag(label, config, "lora_bias"),
        bias=_bias(label, config),
        modules_to_save=_names(label, config, "modules_to_save"),
        target_parameters=_names(label, config, "target_parameters"),
        token_indices=_token_indices(label, config),
        ensure_weight_tying=_flag(label, config, "ensure_weight_tying"),
        peft_version=config["peft_version"] if isinstance(config.get("peft_version"), str) else None,
        base_name=_base_name(config),
        mica=str(config.get("init_lora_weights")).lower() == "mica",
        task_type=config["task_type"] if isinstance(config.get("task_type"), str) else None,
    )


def _base_name(config: Mapping[str, Any]) -> str:
    name = config.get("base_model_name_or_path")
    return name if isinstance(name, str) else ""


def _flag(label: str, config: Mapping[str, Any], field: str) -> bool:
    value = config.get(field) or False
    if not isinstance(value, bool):
        _invalid(label, field, value, "true or false")
    return value


def _bias(label: str, config: Mapping[str, Any]) -> str:
    value = config.get("bias") or "none"
    if not isinstance(value, str) or value not in ("none", "all", "lora_only"):
        _invalid(label, "bias", value, '"none", "all" or "lora_only"')
    return value


def _names(label: str, config: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = config.get(field) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        _invalid(label, field, value, "a list of names")
    return tuple(value)


def _token_indices(label: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    field = "trainable_token_indices"
    value = config.get(field)
    if value is None:
        return {}
    by_module = value if isinstance(value, dict) else {"": value}
    for indices in by_module.values():
        if not isinstance(indices, list) or not all(_is_token(index) for index in indices):
            _invalid(label, field, value, "a list of token numbers, or a map of layers to such lists")
        if len(set(indices)) != len(indices):
            _invalid(label, field, value, "a list in which each token is named once")
    return {name: tuple(indices) for name, indices in by_module.items()}


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def _first_match(pattern: Mapping[str, Any], module: str) -> str:
    """PEFT's rule (peft/utils/other.py, get_pattern_key): the first key that matches the end of the name."""
    return next((key for key in pattern if re.match(rf"(.*\.)?({key})$", module)), module)


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**20


def _is_alpha(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _invalid(label: str, field: str, value: Any, wanted: str) -> NoReturn:
    raise InvalidInput(Reason.INVALID_CONFIG, f"{label}: {field} is {shown(value)}, not {wanted}")
