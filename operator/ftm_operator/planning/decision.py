"""Decides whether adapters are merged, what is made of the model and which engine serves it, with reasons. Pure.

    mode Dynamic   -> the base is served, and adapters beside it; else they are merged into it
    quantization.method GGUF, or serving.engine LlamaCpp, or serving.device CPU   -> llama.cpp on CPUs, GGUF
    else vLLM on GPUs, in mode Dynamic with the base as it is stored, else with quantization.method as it says; Auto is
        AWQ   under objective Throughput, if the architecture and its widths allow it
        None  under objective Quality, or where AWQ cannot be

What the spec says is never overruled: what cannot be had is a Rejection with what can. Combinations that no model could
have (vLLM with GGUF) are refused by the CRD already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ftm_jobs.contract.facts import AdapterFacts, BaseFacts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.rules.awq import AwqChoice, awq_choice
from ftm_operator.planning.rules.complete_config import complete_config
from ftm_operator.planning.rules.generation import writes_text
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.unmerged_adapters import unmerged_objection

Engine = Literal["vLLM", "LlamaCpp"]


@dataclass(frozen=True)
class Decision:
    engine: Engine
    reasons: tuple[str, ...]
    gguf: str | None = None
    """The type of the GGUF file, if one is made."""
    awq: AwqChoice | None = None
    """The settings of AWQ, if it is made."""
    merges: bool = True
    """The adapters become part of the weights; else they are served beside the base."""

    @property
    def mode(self) -> str:
        return "Merged" if self.merges else "Dynamic"

    @property
    def quantizes(self) -> bool:
        """Returns whether something is made of the model before it is served."""
        return self.gguf is not None or self.awq is not None

    @property
    def quantization(self) -> str:
        """Returns the quantization as people read it: None, AWQ or GGUF with its type."""
        return f"GGUF {self.gguf}" if self.gguf else "AWQ" if self.awq else "None"


def decide(spec: FineTunedModelSpec, base: BaseFacts, tensor_parallel_size: int) -> Decision | Rejection:
    """Returns the first branch that fits, or why what the spec asks for cannot be had."""
    if unserved := writes_text(base) or complete_config(base):
        return unserved
    quantization, serving, merges = spec.quantization, spec.serving, spec.mode != "Dynamic"
    if why := _why_llama_cpp(spec):
        made = f"GGUF {quantization.gguf.type}: " + (
            "from spec.quantization.gguf.type"
            if "type" in quantization.gguf.model_fields_set
            else "the default, 4 to 5 bits a weight"
        )
        return Decision("LlamaCpp", (f"llama.cpp on CPUs: {why}", made), gguf=quantization.gguf.type, merges=merges)
    engine = "vLLM on GPUs: " + ("from spec.serving.engine" if serving.engine == "vLLM" else "the default")
    if not merges:
        return Decision("vLLM", (engine, "not quantized: mode Dynamic serves the base as it is stored"), merges=False)
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


def mode_reason(spec: FineTunedModelSpec, adapters: Sequence[AdapterFacts]) -> str:
    """Says why the adapters are merged, or what is served beside the base."""
    count = len(spec.adapters)
    noun = "1 adapter" if count == 1 else f"{count} adapters"
    if spec.mode == "Dynamic":
        return f"Dynamic: from spec.mode; the base answers, and {noun} of the spec beside it"
    objection = unmerged_objection(spec, adapters) if spec.mode == "Auto" else None
    return f"Merged: {noun} folded into the weights" + (
        f"; not served beside the base: {objection}" if objection else ""
    )


def _why_llama_cpp(spec: FineTunedModelSpec) -> str | None:
    if spec.serving.engine == "LlamaCpp":
        return "from spec.serving.engine"
    if spec.quantization.method == "GGUF":
        return "spec.quantization.method is GGUF, which vLLM does not read"
    if spec.serving.device == "CPU":
        return "spec.serving.device is CPU"
    return None
