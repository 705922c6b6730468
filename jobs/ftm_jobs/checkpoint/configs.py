"""Parses a base's config.json, and words what is wrong with it by the file's name. Pure: text or content comes in."""

import json
from collections.abc import Mapping
from typing import Any

from ftm_jobs.checkpoint.refusals.file_signatures import SIGNATURE_BYTES, foreign_content
from ftm_jobs.contract.config import ModelConfig, UnreadableConfig, read_config
from ftm_jobs.errors import InvalidInput, Reason

CONFIG_FILE = "config.json"

CONV1D_MODEL_TYPES = {"clvp", "decision_transformer", "gpt2", "imagegpt", "openai-gpt"}
"""Families whose layers are Conv1D, which stores its weight transposed."""


def parse_json(label: str, text: bytes, reason: Reason = Reason.INVALID_CONFIG) -> dict[str, Any]:
    """Returns a JSON object. Raises InvalidInput with `reason`; `label` is how the message names the file."""
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        foreign = None if text.lstrip().startswith(b"{") else foreign_content(text[:SIGNATURE_BYTES], len(text))
        raise InvalidInput(reason, f"{label} {foreign or f'is not JSON: {error}'}") from error
    if not isinstance(content, dict):
        raise InvalidInput(reason, f"{label} is not a JSON object")
    return content


def parse_base_config(label: str, config: Mapping[str, Any]) -> ModelConfig:
    """Returns what config.json says. Raises InvalidInput (InvalidConfig) naming the field."""
    try:
        return read_config(config)
    except UnreadableConfig as error:
        raise InvalidInput(Reason.INVALID_CONFIG, f"{label} {error}") from error
