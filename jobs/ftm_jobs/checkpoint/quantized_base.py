"""Refuses a quantized base where it cannot be used, and names the 16-bit model it was made from. Pure.

A merge needs the weights in 16 bits. An engine that serves them as they are stored takes FP8, and what has fewer bits
where it was asked for.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.caller import advice

CARD_FILE = "README.md"
"""The model card of a Hub repository; its front matter may name the base_model."""

_CARD_BASE = re.compile(r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([\w.-]+/[\w.-]+)[\"']?[ \t]*$", re.MULTILINE)
_METHOD_SUFFIX = re.compile(
    r"(?i)[-_.](?:(?:unsloth[-_.])?bnb[-_.]\d+bits?|(?:gptq|awq|hqq|aqlm|exl2|fp8|nf4|w\d+a\d+|int\d+|\d+bits?)"
    r"(?:[-_.](?:int\d+|\d+bits?|g\d+|g(?:emm|emv)|dynamic))*)$"
)


_FP8 = ("fp8", "fbgemm_fp8")
_COMPRESSED_TENSORS = ("compressed-tensors", "compressed_tensors")
_SERVED = (*_FP8, *_COMPRESSED_TENSORS, "awq", "gptq", "mxfp4")
"""Methods whose layers adapters are matched to; sizing knows the same."""


class AcceptedWeights(Enum):
    """The weights of a base that a step can use."""

    UNQUANTIZED = "unquantized"
    """For a merge."""
    FP8 = "fp8"
    """In 16 bits, or FP8: they are served as they are stored."""
    ANY = "any"
    """As FP8, or in fewer bits: that was asked for."""


def refuse_quantized(
    label: str,
    uri: str,
    config: Mapping[str, Any],
    card: str,
    accepted: AcceptedWeights = AcceptedWeights.UNQUANTIZED,
) -> None:
    """Raises InvalidInput (UnsupportedBase) when config.json says that the weights are quantized otherwise."""
    quantization = config.get("quantization_config")
    if not quantization:
        return
    method = quantization_method(config)
    if accepted is not AcceptedWeights.UNQUANTIZED and _is_fp8(quantization):
        return
    if accepted is AcceptedWeights.ANY and method in _SERVED:
        return
    name = original(uri, config, card)
    remedy = f"use the 16-bit model it was made from, {name}" if name else "name the 16-bit model it was made from"
    if accepted is AcceptedWeights.FP8 and method in _SERVED:
        remedy += advice(
            ", or set spec.quantizedBase to AsStored to serve adapters beside these weights",
            ", or give --quantized-base AsStored to serve adapters beside these weights",
        )
    raise InvalidInput(
        Reason.UNSUPPORTED_BASE,
        f'{label} says that the base is quantized (quantization_config.quant_method "{method}"): {remedy}',
    )


def quantization_method(config: Mapping[str, Any]) -> str:
    """Returns quantization_config.quant_method of a config.json; unknown where it is not said."""
    quantization = config.get("quantization_config")
    return str(quantization.get("quant_method", "unknown")) if isinstance(quantization, Mapping) else "unknown"


def _is_fp8(quantization: Any) -> bool:
    if not isinstance(quantization, Mapping):
        return False
    method, groups = quantization.get("quant_method"), quantization.get("config_groups")
    if method in _COMPRESSED_TENSORS and isinstance(groups, Mapping) and groups:
        schemes = [group.get("weights") if isinstance(group, Mapping) else None for group in groups.values()]
        return all(
            isinstance(scheme, Mapping) and (scheme.get("type"), scheme.get("num_bits")) == ("float", 8)
            for scheme in schemes
        )
    return method in _FP8


def original(uri: str, config: Mapping[str, Any], card: str) -> str | None:
    """Returns `hf://org/name` as the model card says it, or a guess from a name that ends like Llama-3-8B-bnb-4bit."""
    own = uri.removeprefix("hf://").partition("@")[0] if uri.startswith("hf://") else ""
    front = card.split("\n---", 1)[0] if card.startswith("---") else ""
    if (named := _CARD_BASE.search(front)) and named[1] != own:
        return f"hf://{named[1]}"
    for name in (own, config.get("_name_or_path")):
        if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and _METHOD_SUFFIX.search(name):
            return f"by its name hf://{_METHOD_SUFFIX.sub('', name)}"
    return None
