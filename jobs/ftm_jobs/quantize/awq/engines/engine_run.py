"""Holds what an engine is given: a model, and how to quantize it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftm_jobs.quantize.awq.layout import AwqLayout
from ftm_jobs.quantize.awq.settings import AwqSettings


@dataclass(frozen=True)
class EngineRun:
    """One run of an engine over a model in a local folder."""

    model: Path
    """The folder: config.json, safetensors files and tokenizer.json."""
    out: Path
    """The folder that gets the quantized weight files."""
    config: Mapping[str, Any]
    """config.json in the layout's widths."""
    files: tuple[str, ...]
    """Names of the model's weight files."""
    layout: AwqLayout
    blocks: list[list[int]]
    """Calibration text as token numbers, all blocks of one length."""
    settings: AwqSettings
