"""Holds the whole spec of a FineTunedModel, with the rules over several of its parts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import MapList, Resource, Rule, full_match, full_match_cel
from ftm_operator.api.spec.jobs import Jobs
from ftm_operator.api.spec.quantization import Quantization
from ftm_operator.api.spec.serving import LORA_FLAG, ServingSpec
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
MERGED_NEEDS_ADAPTERS = Rule(
    "there is nothing to merge; name an adapter in adapters, or set mode to Dynamic to serve the base for "
    "FineTunedAdapters",
    "self.mode == 'Dynamic' || (has(self.adapters) && size(self.adapters) > 0)",
    lambda spec: spec.mode == "Dynamic" or bool(spec.adapters),
)
DYNAMIC_QUANTIZES_NOTHING = Rule(
    "mode Dynamic serves the base as it is stored; set quantization.method to Auto or None, or serving.engine to "
    "LlamaCpp for GGUF",
    "self.mode != 'Dynamic' || self.quantization.method != 'AWQ'",
    lambda spec: spec.mode != "Dynamic" or spec.quantization.method != "AWQ",
)
_is_lora_flag = full_match(LORA_FLAG)
DYNAMIC_SETS_ITS_FLAGS = Rule(
    "mode Dynamic sets vLLM's flags for adapters itself; remove them from serving.extraArgs and write serving.dynamic",
    "self.mode != 'Dynamic' || !has(self.serving.extraArgs) || "
    f"!self.serving.extraArgs.exists(argument, {full_match_cel(LORA_FLAG, 'argument')})",
    lambda spec: spec.mode != "Dynamic" or not any(map(_is_lora_flag, spec.serving.extra_args)),
)
QUANTIZED_BASE_FITS_THE_MODE = Rule(
    "a merge needs weights in 16 bits, and mode Dynamic serves them as they are stored; write quantizedBase AsStored "
    "with mode Dynamic alone, and NF4RoundTrip with the others",
    "self.mode == 'Dynamic' ? self.quantizedBase != 'NF4RoundTrip' : self.quantizedBase != 'AsStored'",
    lambda spec: spec.quantized_base != ("NF4RoundTrip" if spec.mode == "Dynamic" else "AsStored"),
)
SERVED_NAMES_ARE_OF_ADAPTERS = Rule(
    "servedNames are of adapters beside a base; set mode to Dynamic, or remove serving.servedNames",
    "self.mode == 'Dynamic' || !has(self.serving.servedNames) || size(self.serving.servedNames) == 0",
    lambda spec: spec.mode == "Dynamic" or not spec.serving.served_names,
)
PREVIEW_IS_OF_A_MERGE = Rule(
    "preview serves what mode Dynamic would until the merged model is ready; remove preview, or set mode to Merged",
    "self.mode != 'Dynamic' || self.preview == 'None'",
    lambda spec: spec.mode != "Dynamic" or spec.preview == "None",
)

CANARY_IS_OF_MERGED = Rule(
    "a Canary is a new version of a merged model; set serving.strategy to Auto where mode or preview is Dynamic: "
    "serving.servedNames divides requests between adapters",
    "self.serving.strategy != 'Canary' || (self.mode != 'Dynamic' && self.preview != 'Dynamic')",
    lambda spec: spec.serving.strategy != "Canary" or "Dynamic" not in (spec.mode, spec.preview),
)

IMAGES_NEED_A_REGISTRY = Rule(
    "loading Image mounts what was pushed to a registry; write artifacts.oci, or set serving.loading to Fetch",
    "!has(self.serving.loading) || self.serving.loading != 'Image' || (has(self.artifacts) && has(self.artifacts.oci))",
    lambda spec: spec.serving.loading != "Image" or bool(spec.artifacts and spec.artifacts.oci),
)
DYNAMIC_FETCHES = Rule(
    "mode Dynamic serves the base, which is no artifact; set serving.loading to Fetch or Auto, or mode to Merged",
    "self.mode != 'Dynamic' || !has(self.serving.loading) || self.serving.loading in ['Auto', 'Fetch']",
    lambda spec: spec.mode != "Dynamic" or spec.serving.loading in ("Auto", "Fetch"),
)


class FineTunedModelSpec(Resource):
    """The model to build, and the way to serve it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        GGUF_NEEDS_LLAMA_CPP,
        LLAMA_CPP_NEEDS_GGUF,
        LLAMA_CPP_NEEDS_CPU,
        VLLM_NEEDS_GPU,
        MERGED_NEEDS_ADAPTERS,
        DYNAMIC_QUANTIZES_NOTHING,
        QUANTIZED_BASE_FITS_THE_MODE,
        DYNAMIC_SETS_ITS_FLAGS,
        SERVED_NAMES_ARE_OF_ADAPTERS,
        PREVIEW_IS_OF_A_MERGE,
        IMAGES_NEED_A_REGISTRY,
        DYNAMIC_FETCHES,
        CANARY_IS_OF_MERGED,
    )
    base: Base
    """The base model."""
    adapters: Annotated[tuple[Adapter, ...], Field(max_length=16), MapList("name")] = ()
    """The adapters, merged into the base in this order, or served beside it under their names in mode Dynamic."""
    mode: Literal["Auto", "Merged", "Dynamic"] = "Auto"
    """The way that the adapters are applied. Merged: they become part of the weights. Dynamic: the base is served as it
    is stored, and each adapter beside it under its own name; FineTunedAdapters add more at run time. Auto: Merged."""
    preview: Literal["None", "Dynamic"] = "None"
    """The model that is served until the merged one is verified for the first time. Dynamic: the base with the adapter
    beside it, under the model's name. None: nothing."""
    quantized_base: Literal["FullPrecision", "NF4RoundTrip", "AsStored"] = "FullPrecision"
    """The weights that the adapters are added to. FullPrecision: the base as it is stored, in 16 bits, or in mode
    Dynamic also in FP8. NF4RoundTrip: the base as 4-bit NormalFloat leaves it, for adapters that were trained on a
    4-bit base (QLoRA) and are merged. AsStored: in mode Dynamic, a base in fewer bits, too (AWQ, GPTQ,
    compressed-tensors, MXFP4)."""
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
