"""Holds the settings of quantization."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import Resource, Rule
from ftm_operator.api.spec.sources import Calibration


class AWQ(Resource):
    """The settings of AWQ: 4 bits for a weight, with a scale and a zero point for each group of weights."""

    group_size: Literal[128, 64, 32] | None = None
    """Weights that share a scale; absent: the largest of 128, 64 and 32 that every layer's width divides by, on every
    accelerator of a replica."""
    engine: Literal["Auto", "AutoAWQ", "LLMCompressor"] = "Auto"
    """The quantizer; Auto: AutoAWQ for the architectures that it knows, else LLMCompressor. vLLM serves the result of
    either."""


class GGUF(Resource):
    """The settings of llama.cpp's converter and quantizer."""

    type: Literal["Q2_K", "Q4_0", "Q4_K_M", "Q5_K_M", "Q8_0", "F16", "BF16"] = "Q4_K_M"
    """The storage of weights; smaller numbers make smaller files and larger errors. F16 and BF16 quantize nothing."""
    strict: Annotated[bool, Field(strict=True)] = False
    """Refuse a type that some weights cannot have; without this llama.cpp stores those in other types, because of their
    widths."""
    importance_matrix: Annotated[bool, Field(strict=True)] = False
    """Weigh errors by the activations of quantization.calibration; this takes as long as a CPU takes to read that
    text."""


class Quantization(Resource):
    """The quantization of the merged weights, which makes them smaller."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "gguf.importanceMatrix is computed from text; set calibration.uri",
            "!has(self.gguf) || !self.gguf.importanceMatrix || has(self.calibration)",
            lambda quantization: not quantization.gguf.importance_matrix or quantization.calibration is not None,
        ),
    )
    method: Literal["Auto", "None", "AWQ", "GGUF"] = "Auto"
    """The method. Auto: GGUF for llama.cpp; for vLLM, AWQ under objective Throughput and None under Quality. None: the
    weights are served as they were merged."""
    awq: AWQ = AWQ()
    """The settings of AWQ, if that is the method."""
    gguf: GGUF = GGUF()
    """The settings of GGUF files, if that is the method."""
    calibration: Calibration | None = None
    """The text for calibration; its last quarter measures the result. Absent: a small set that comes with the
    operator."""
