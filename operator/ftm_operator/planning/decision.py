"""Decides what is made of a merged model and which engine serves it, each branch with its reason. Pure.

    quantization.method GGUF, or serving.engine LlamaCpp, or serving.device CPU   -> llama.cpp on CPUs, GGUF
    else vLLM on GPUs, with quantization.method as it says; Auto is
        AWQ   under objective Throughput, if the architecture and its widths allow it
        None  under objective Quality, or where AWQ cannot be

What the spec says is never overruled: what cannot be had is a Rejection with what can. Combinations that no model could
have (vLLM with GGUF) are refused by the CRD already.
"""

from dataclasses import dataclass
from typing import Literal

from ftm_jobs.contract.facts import BaseFacts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.rules.awq import AwqChoice, awq_choice
from ftm_operator.planning.rules.complete_config import complete_config
from ftm_operator.planning.rules.generation import writes_text
from ftm_operator.planning.rules.rejection import Rejection

Engine = Literal["vLLM", "LlamaCpp"]


@dataclass(frozen=True)
class Decision:
    engine: Engine
    reasons: tuple[str, ...]
    gguf: str | None = None
    """The type of the GGUF file, if one is made."""
    awq: AwqChoice | None = None
    """The settings of AWQ, if it is made."""

    @property
    def quantizes(self) -> bool:
        """Returns whether something is made of the merged model before it is served."""
        return self.gguf is not None or self.awq is not None

    @property
    def quantization(self) -> str:
        """Returns the quantization as people read it: None, AWQ or GGUF with its type."""
        return f"GGUF {self.gguf}" if self.gguf else "AWQ" if self.awq else "None"


def decide(spec: FineTunedModelSpec, base: BaseFacts, tensor_parallel_size: int) -> Decision | Rejection:
    """Returns the first branch that fits, or why what the spec asks for cannot be had."""
    if unserved := writes_text(base) or complete_config(base):
        return unserved
    quantization, serving = spec.quantization, spec.serving
    if why := _why_llama_cpp(spec):
        made = f"GGUF {quantization.gguf.type}: " + (
            "from spec.quantization.gguf.type"
            if "type" in quantization.gguf.model_fields_set
            else "the default, 4 to 5 bits a weight"
        )
        return Decision("LlamaCpp", (f"llama.cpp on CPUs: {why}", made), gguf=quantization.gguf.type)
    engine = "vLLM on GPUs: " + ("from spec.serving.engine" if serving.engine == "vLLM" else "the default")
    if quantization.method == "None":
        return Decision("vLLM", (engine, "not quantized: from spec.quantization.method"))
    if quantization.method == "Auto" and spec.objective == "Quality":
        return Decision("vLLM", (engine, "not quantized: spec.objective is Quality"))
    awq = awq_choice(quantization.awq, base, tensor_parallel_size)
    if isinstance(awq, AwqChoice):
        asked = "from spec.quantization.method" if quantization.method == "AWQ" else "spec.objective is Throughput"
        return Decision("vLLM", (engine, f"AWQ: {asked}", *awq.reasons), awq=awq)
    if quantization.method == "AWQ":
        return awq
    return Decision("vLLM", (engine, f"not quantized, though spec.objective is Throughput: {awq.reason}"))


def _why_llama_cpp(spec: FineTunedModelSpec) -> str | None:
    if spec.serving.engine == "LlamaCpp":
        return "from spec.serving.engine"
    if spec.quantization.method == "GGUF":
        return "spec.quantization.method is GGUF, which vLLM does not read"
    if spec.serving.device == "CPU":
        return "spec.serving.device is CPU"
    return None
