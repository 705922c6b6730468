"""Refuses a quantized base, and names the 16-bit model it was made from where its files or name say it. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from ftm_jobs.errors import InvalidInput, Reason

CARD_FILE = "README.md"
"""The model card of a Hub repository; its front matter may name the base_model."""

_CARD_BASE = re.compile(r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([\w.-]+/[\w.-]+)[\"']?[ \t]*$", re.MULTILINE)
_METHOD_SUFFIX = re.compile(
    r"(?i)[-_.](?:(?:unsloth[-_.])?bnb[-_.]\d+bits?|(?:gptq|awq|hqq|aqlm|exl2|fp8|nf4|w\d+a\d+|int\d+|\d+bits?)"
    r"(?:[-_.](?:int\d+|\d+bits?|g\d+|g(?:emm|emv)|dynamic))*)$"
)


def refuse_quantized(label: str, uri: str, config: Mapping[str, Any], card: str) -> None:
    """Raises InvalidInput (UnsupportedBase) when config.json says that the weights are quantized."""
    quantization = config.get("quantization_config")
    if not quantization:
        return
    method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
    name = original(uri, config, card)
    remedy = f"use the 16-bit model it was made from, {name}" if name else "name the 16-bit model it was made from"
    raise InvalidInput(
        Reason.UNSUPPORTED_BASE,
        f'{label} says that the base is quantized (quantization_config.quant_method "{method}"): {remedy}',
    )


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
