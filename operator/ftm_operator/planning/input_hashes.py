"""Hashes the inputs of inspections, merges, quantizations, plans and verifications: a new hash means doing it again.

An inspection is repeated when the sources' URIs or the refresh annotation change, or a base in fewer bits is taken, and
for no other reason: what serves the model is no part of it. A merge's key is `ftm_jobs.contract.merge_key`.
"""

import hashlib
import json
from collections.abc import Sequence

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.keys import QuantizedBase, merge_key
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.decision import Decision

PLANNED_SERVING = (
    "engine",
    "device",
    "concurrency",
    "maxModelLen",
    "dtype",
    "tensorParallelSize",
    "accelerator",
    "gpuMemoryUtilization",
    "servedModelName",
    "extraArgs",
)
IMAGE_RECIPE = 1
"""Raised when the bytes of an artifact's image would be others."""
REFRESH_ANNOTATION = "ftm.dev/refresh"


def inspection_input_hash(spec: FineTunedModelSpec, refresh: str | None) -> str:
    """Returns sixteen hex digits over the sources as written, the refresh annotation's value, and what is accepted."""
    accepted = [spec.quantized_base] if spec.quantized_base == "AsStored" else []
    return short_hash([spec.base.uri, [adapter.uri for adapter in spec.adapters], refresh, *accepted], 16)


def merged_key(spec: FineTunedModelSpec, facts: Facts) -> str:
    """Returns the key of the merged model: the base, and adapters in the spec's order, each with its scale."""
    scales = [adapter.scale for adapter in spec.adapters]
    digests = [adapter.digest for adapter in facts.adapters]
    return merge_key(facts.base.digest, list(zip(digests, scales, strict=True)), QuantizedBase(spec.quantized_base))


def quantization_input_hash(spec: FineTunedModelSpec, decision: Decision, merged: str, refresh: str | None) -> str:
    """Sixteen hex digits over the merged model's key and all that decides what is quantized from it.

    The artifact's own key is the Job's to derive: it holds the digest of the calibration text.
    """
    quantization = spec.quantization
    calibration = quantization.calibration.uri if quantization.calibration else None
    if decision.gguf:
        gguf = quantization.gguf
        return short_hash(
            [merged, decision.gguf, gguf.strict, [calibration, refresh] if gguf.importance_matrix else None], 16
        )
    assert decision.awq
    awq = decision.awq
    return short_hash([merged, awq.group_size, awq.engine, awq.ranks, calibration, refresh], 16)


def plan_input_hash(spec: FineTunedModelSpec, facts: Facts, refresh: str | None) -> str:
    """Sixteen hex digits over all that a plan is made from, but for the GPUs that there are."""
    read = spec.to_json()
    serving = {name: value for name, value in read["serving"].items() if name in PLANNED_SERVING}
    adapters: object = [adapter.name for adapter in spec.adapters]
    if spec.mode == "Dynamic":  # adapters come and go without another plan
        adapters = {"dynamic": read["serving"].get("dynamic")}
    return short_hash(
        [facts.base.digest, adapters, read["objective"], read["quantization"], serving, refresh],
        16,
    )


def verification_input_hash(spec: FineTunedModelSpec, built: Sequence[Artifact], refresh: str | None) -> str:
    """Sixteen hex digits over the models and all that decides how they are measured; what follows is no part of it."""
    verification, calibration = spec.verification, spec.quantization.calibration
    return short_hash(
        [
            [artifact.digest for artifact in built],
            [prompt.to_json() for prompt in verification.prompts],
            verification.max_divergence,
            [calibration.uri, refresh] if calibration else None,
        ],
        16,
    )


def publication_input_hash(repository: str, served: Artifact, refresh: str | None) -> str:
    """Returns sixteen hex digits over the artifact, the repository and the form of the image.

    Another value of the refresh annotation pushes an image again that was deleted from its registry.
    """
    return short_hash([served.digest, repository, IMAGE_RECIPE, refresh], 16)


def short_hash(value: object, digits: int) -> str:
    """Returns the first `digits` hex digits of the SHA-256 of `value` as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]
