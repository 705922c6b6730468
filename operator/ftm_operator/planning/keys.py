"""What must be built again, and what need not: the identities of an inspection and of a merge.

An inspection is repeated when the sources' URIs or the refresh annotation change, and for no other reason: what
serves the model is no part of it. A merge's key is `ftm_jobs.contract.merge_key`.
"""

import hashlib
import json

from ftm_jobs.contract import Facts, QuantizedBase, merge_key
from ftm_operator.api.v1alpha1 import FineTunedModelSpec

REFRESH_ANNOTATION = "ftm.dev/refresh"


def inspection_key(spec: FineTunedModelSpec, refresh: str | None) -> str:
    """Sixteen hex digits over the sources as written and the refresh annotation's value."""
    return short_hash([spec.base.uri, [adapter.uri for adapter in spec.adapters], refresh], 16)


def merged_key(spec: FineTunedModelSpec, facts: Facts) -> str:
    """The key of the merged model: adapters in the spec's order, each with its scale, and what they are added to."""
    scales = [adapter.scale for adapter in spec.adapters]
    digests = [adapter.digest for adapter in facts.adapters]
    return merge_key(facts.base.digest, list(zip(digests, scales, strict=True)), QuantizedBase(spec.quantized_base))


def short_hash(value: object, digits: int) -> str:
    """The first `digits` hex digits of the SHA-256 of `value` as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]
