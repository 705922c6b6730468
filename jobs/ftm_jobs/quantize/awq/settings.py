"""Holds how a model is to be quantized to AWQ, and refuses what no engine does."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ftm_jobs.contract.awq import AUTOAWQ_MODEL_TYPES
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.layout import GROUP_SIZES

BITS = 4


class AwqEngine(StrEnum):
    AUTOAWQ = "autoawq"
    LLM_COMPRESSOR = "llm-compressor"


@dataclass(frozen=True)
class AwqSettings:
    """The quantization that a person asks for."""

    bits: int = BITS
    group_size: int = GROUP_SIZES[0]
    """The largest to use: it falls back where the model's shapes forbid it."""
    zero_point: bool = True
    engine: AwqEngine = AwqEngine.AUTOAWQ
    tensor_parallel: tuple[int, ...] = (1,)
    """Sizes that the result is to be served with."""
    apply_clip: bool = True
    """Search for the largest magnitude of each group, too."""
    sequence_length: int = 512
    """Tokens of a block of calibration text."""
    sequences: int = 128
    """The most blocks to use."""


def check_settings(settings: AwqSettings) -> None:
    """Raises InvalidInput (UnsupportedModel) for settings that no engine takes."""
    if settings.bits != BITS:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"bits {settings.bits} are not supported: vLLM's AWQ kernels have 4; write bits: 4",
        )
    if settings.engine is AwqEngine.AUTOAWQ and not settings.zero_point:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            "zeroPoint: false is not supported by engine autoawq, whose format has zero points: "
            "leave it true, or write engine: llm-compressor",
        )


def check_engine(engine: AwqEngine, config: Mapping[str, Any]) -> None:
    """Raises InvalidInput (UnsupportedModel) when the engine does not know the model's type."""
    model_type = str(config.get("model_type"))
    if engine is AwqEngine.AUTOAWQ and model_type not in AUTOAWQ_MODEL_TYPES:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f'model_type "{model_type}" is not one that AutoAWQ knows ({", ".join(AUTOAWQ_MODEL_TYPES)}): '
            "write quantization.awq.engine: LLMCompressor",
        )
