"""Holds what a verification is asked to measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.text.calibration import CalibrationText
from ftm_jobs.text.prompts import Question
from ftm_jobs.verify.model_folder import ModelFolder


@dataclass(frozen=True)
class VerificationTask:
    """The models that are opened, and the text that they are measured on."""

    inputs: Inputs
    merged: ModelFolder
    quantized: ModelFolder | None
    calibration: CalibrationText
    questions: Sequence[Question]
    tokens: int
    """Tokens of hold-out text, at most."""
    scratch: Path
    gguf: Path | None = None
    """The quantized model's GGUF file, if it is that."""
