"""Holds the whole spec of a FineTunedModel, with the rules over several of its parts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import MapList, Resource, Rule
from ftm_operator.api.spec.jobs import Jobs
from ftm_operator.api.spec.quantization import Quantization
from ftm_operator.api.spec.serving import ServingSpec
from ftm_operator.api.spec.sources import Adapter, ArtifactStore, Base
from ftm_operator.api.spec.verification import VerificationSpec

GGUF_NEEDS_LLAMA_CPP = Rule(
    "vLLM does not read GGUF; set serving.engine to LlamaCpp, or quantization.method to AWQ or None",
    "self.quantization.method != 'GGUF' || self.serving.engine != 'vLLM'",
    lambda spec: spec.quantization.method != "GGUF" or spec.serving.engine != "vLLM",
)
LLAMA_CPP_NEEDS_GGUF = Rule(
    "llama.cpp reads GGUF alone; set quantization.method to GGUF, with gguf.type BF16 for weights that are not "
    "quantized, or serving.engine to vLLM",
    "self.serving.engine != 'LlamaCpp' || self.quantization.method in ['Auto', 'GGUF']",
    lambda spec: spec.serving.engine != "LlamaCpp" or spec.quantization.method in ("Auto", "GGUF"),
)
LLAMA_CPP_NEEDS_CPU = Rule(
    "llama.cpp is served on CPUs here; set serving.device to CPU, or serving.engine to vLLM with quantization.method "
    "AWQ or None",
    "self.serving.device != 'GPU' || (self.serving.engine != 'LlamaCpp' && self.quantization.method != 'GGUF')",
    lambda spec: (
        spec.serving.device != "GPU" or (spec.serving.engine != "LlamaCpp" and spec.quantization.method != "GGUF")
    ),
)
VLLM_NEEDS_GPU = Rule(
    "vLLM is served on GPUs here; set serving.device to GPU, or serving.engine to LlamaCpp with quantization.method "
    "GGUF",
    "self.serving.device != 'CPU' || (self.serving.engine != 'vLLM' && self.quantization.method in ['Auto', 'GGUF'])",
    lambda spec: (
        spec.serving.device != "CPU" or (spec.serving.engine != "vLLM" and spec.quantization.method in ("Auto", "GGUF"))
    ),
)


class FineTunedModelSpec(Resource):
    """The model to build, and the way to serve it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        GGUF_NEEDS_LLAMA_CPP,
        LLAMA_CPP_NEEDS_GGUF,
        LLAMA_CPP_NEEDS_CPU,
        VLLM_NEEDS_GPU,
    )
    base: Base
    """The base model."""
    adapters: Annotated[tuple[Adapter, ...], Field(min_length=1, max_length=16), MapList("name")]
    """The adapters, merged into the base in this order."""
    quantized_base: Literal["FullPrecision", "NF4RoundTrip"] = "FullPrecision"
    """The weights that the adapters are added to. FullPrecision: the base as it is stored. NF4RoundTrip: the base as
    4-bit NormalFloat leaves it, for adapters that were trained on a 4-bit base (QLoRA)."""
    objective: Literal["Quality", "Throughput"] = "Quality"
    """The aim of Auto where both cannot be had. Quality: the weights as they were merged. Throughput: 4-bit weights,
    which answer faster on fewer GPUs and say almost the same."""
    quantization: Quantization = Quantization()
    """The quantization of the merged weights, which makes them smaller."""
    verification: VerificationSpec = VerificationSpec()
    """The proof that the served model says what was trained."""
    artifacts: ArtifactStore | None = None
    """The store of finished artifacts; absent: the store that the operator was installed with."""
    serving: ServingSpec = ServingSpec()
    """The engine that serves the model, its Pods and their hardware."""
    jobs: Jobs = Jobs()
    """The Jobs that build artifacts."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """Stop building and rolling out; the model that serves goes on serving."""
