"""Derives keys of artifacts from what was read and how it is combined.

A key depends on digests of the sources and on the recipe, not on the tools' versions: a recipe is raised only when the
bytes of its output would change.
"""

import hashlib
import json
from enum import StrEnum
from typing import Any

from ftm_jobs.contract.steps import Step

MERGE_RECIPE = 2


AWQ_RECIPE = 2


GGUF_RECIPE = 1


VERIFY_RECIPE = 2


REFERENCE_RECIPE = 1


ADAPTER_RECIPE = 1


ADAPTER_PREFIX = "adapter-"
"""Begins the names of kept adapters' folders."""
ARTIFACT_KEY = r"(?:merge|awq|gguf|verify|reference|adapter)-[0-9a-f]{32}"
"""Pattern of the names of artifacts' folders."""


class QuantizedBase(StrEnum):
    """The weights that a QLoRA adapter is added to."""

    FULL_PRECISION = "FullPrecision"
    """The base as it is stored."""
    NF4_ROUND_TRIP = "NF4RoundTrip"
    """The base as 4-bit NormalFloat leaves it, which is what the adapter was trained on."""


class AdapterEngine(StrEnum):
    """The engines that serve an adapter unmerged, as spec.serving.engine names them."""

    VLLM = "vLLM"
    """It reads the files as PEFT saves them."""
    LLAMA_CPP = "LlamaCpp"
    """It reads one GGUF file."""


class OutputDtype(StrEnum):
    """The dtype of all floating tensors of a merged model, by torch's name."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class ClassifierTask(StrEnum):
    """The kinds of classifiers that PEFT trains on a language model, as task_type in adapter_config.json."""

    SEQUENCE = "SEQ_CLS"
    """A label for a whole text."""
    TOKEN = "TOKEN_CLS"
    """A label for each token."""


def merge_key(
    base_digest: str,
    adapters: list[tuple[str, float]],
    quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION,
    max_shard_size: int | None = None,
    task: ClassifierTask | None = None,
    dtype: OutputDtype | None = None,
) -> str:
    """Returns the key of a merged model: adapters are (digest, scale), in the order they are applied."""
    content: dict[str, Any] = {
        "step": Step.MERGE,
        "recipe": MERGE_RECIPE,
        "base": base_digest,
        "adapters": [{"digest": digest, "scale": float(scale)} for digest, scale in adapters],
    }
    if quantized_base is not QuantizedBase.FULL_PRECISION:
        content["quantizedBase"] = quantized_base
    if max_shard_size is not None:
        content["maxShardSize"] = max_shard_size
    if task is not None:
        content["task"] = task
    if dtype is not None:
        content["dtype"] = dtype
    return "merge-" + _digest(content)


def awq_key(
    merged_key: str,
    bits: int,
    group_size: int,
    zero_point: bool,
    engine: str,
    calibration_digest: str,
    tensor_parallel: tuple[int, ...] = (1,),
) -> str:
    """Returns the key of an AWQ model. `merged_key` is the merged artifact's, or the digest of a model that is none.

    `tensor_parallel` are the sizes that it is to be served with: they decide the group size and an MLP's padding.
    """
    content: dict[str, Any] = {
        "step": Step.QUANTIZE,
        "recipe": AWQ_RECIPE,
        "model": merged_key,
        "bits": bits,
        "groupSize": group_size,
        "zeroPoint": zero_point,
        "engine": engine,
        "calibration": calibration_digest,
    }
    sizes = sorted({1, *tensor_parallel})
    if sizes != [1]:
        content["tensorParallel"] = sizes
    return "awq-" + _digest(content)


def gguf_key(merged_key: str, type: str, importance_digest: str | None = None) -> str:
    """Returns the key of a GGUF model; `importance_digest` is that of the importance matrix's text."""
    content = {"step": Step.QUANTIZE, "recipe": GGUF_RECIPE, "model": merged_key, "type": type}
    if importance_digest is not None:
        content["importance"] = importance_digest
    return "gguf-" + _digest(content)


def verify_key(inputs: list[tuple[str, str, float | None]], settings: dict[str, Any]) -> str:
    """Returns the key of a verification: inputs are (role, digest, scale) in order; a verdict depends on settings."""
    return "verify-" + _digest(
        {
            "step": Step.VERIFY,
            "recipe": VERIFY_RECIPE,
            "inputs": [{"role": role, "digest": digest, "scale": scale} for role, digest, scale in inputs],
            "settings": settings,
        }
    )


def adapter_key(adapter_digest: str, base_digest: str, engine: AdapterEngine = AdapterEngine.VLLM) -> str:
    """Returns the key of an adapter that is kept for an engine; it was checked against that base."""
    content = {"step": Step.ADAPTER, "recipe": ADAPTER_RECIPE, "adapter": adapter_digest, "base": base_digest}
    return ADAPTER_PREFIX + _digest({**content, "engine": engine})


def reference_key(verify_key: str) -> str:
    """Returns the key of the reference that a verification keeps for what is served."""
    return "reference-" + _digest({"recipe": REFERENCE_RECIPE, "verification": verify_key})


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
