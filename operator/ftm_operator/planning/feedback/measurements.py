"""Keeps what engines measured in a namespace, and corrects the next plan of the same model and sizes by it. Pure.

A measurement is kept by artifact, kind of GPU, sizes and the engine's image. Its correction is what the estimate left
for the KV cache, less what the engine had: that much more is held in the next plan of the same key, or less, if it is
negative. Where a later start of the same key measures something else, that is what counts.

The artifact is named by its key, not by its digest: a merge's is known before it is built, so that the first plan of
another resource with the same base, adapters and scales is corrected too. What is quantized has its key from its Job,
so there it is a model that was already built whose plan is corrected.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.planning.memory.rank_memory import LEAST_RESERVES
from ftm_operator.planning.sizing.request import Correction

MOST = 500
"""Measurements that a namespace keeps; the oldest go first."""
ESTIMATE = 1
"""The revision of the formulae and constants of planning/memory. A measurement beside an estimate by others corrects no
plan, until the engine is measured again."""


def revision_of(plan: Plan) -> int:
    """Returns the revision that a plan's estimate is by; 0 for one from before the reserves had two ends."""
    return ESTIMATE if LEAST_RESERVES in (plan.memory or {}) else 0


@dataclass(frozen=True)
class Measurement:
    """Memory that one engine had, for an artifact on a kind of GPU with these sizes."""

    artifact: str
    """The key of what was served; the digest of a base that is served as it is stored."""
    accelerator: str
    """The kind of GPU."""
    tensor_parallel: int
    pipeline_parallel: int
    engine: str
    """Its image."""
    estimated_bytes: int
    """Bytes for the KV cache, without any correction."""
    measured_bytes: int
    """Bytes that the engine had for it."""
    weight_bytes: int | None = None
    """Bytes of the weights, as the engine said."""
    at: str = ""
    """The time, as ISO 8601 in UTC."""
    estimate: int = 0
    """The revision of the formulae that `estimated_bytes` is by."""

    @property
    def key(self) -> str:
        sizes = [self.tensor_parallel, self.pipeline_parallel]
        return short_hash([self.artifact, self.accelerator, *sizes, self.engine], 16)

    def says_what(self, other: "Measurement | None") -> bool:
        """Returns whether the other says the same, whenever it was."""
        return other is not None and {**asdict(self), "at": ""} == {**asdict(other), "at": ""}


Measurements = Mapping[str, Measurement]
"""Measurements by their key."""


def read(data: Mapping[str, Any]) -> dict[str, Measurement]:
    """Reads a ConfigMap's data; an entry that cannot be read, or is not what its key says, is left out."""
    entries = (_entry(text) for text in data.values())
    return {each.key: each for each in entries if each and each.key in data}


def written(measurements: Measurements) -> dict[str, str]:
    """Writes the measurements as a ConfigMap's data."""
    return {key: json.dumps(asdict(each), sort_keys=True) for key, each in sorted(measurements.items())}


def added(measurements: Measurements, new: Iterable[Measurement]) -> dict[str, Measurement]:
    """Returns all measurements with the new ones, but no more than MOST."""
    every = {**measurements, **{each.key: each for each in new}}
    newest = sorted(every.values(), key=lambda each: (each.at, each.key))[-MOST:]
    return {each.key: each for each in newest}


def corrections(measurements: Measurements, artifact: str | None, engine: str) -> tuple[Correction, ...]:
    """Returns the corrections by what was measured of one artifact under one engine."""
    return tuple(
        Correction(
            each.accelerator,
            each.tensor_parallel,
            each.pipeline_parallel,
            each.estimated_bytes - each.measured_bytes,
        )
        for _, each in sorted(measurements.items())
        if (each.artifact, each.engine, each.estimate) == (artifact, engine, ESTIMATE)
    )


def _entry(text: Any) -> Measurement | None:
    try:
        values = json.loads(text)
        measurement = Measurement(
            **{each.name: values[each.name] for each in fields(Measurement) if each.name in values}
        )
    except (TypeError, ValueError):
        return None
    numbers = (
        measurement.tensor_parallel,
        measurement.pipeline_parallel,
        measurement.estimated_bytes,
        measurement.measured_bytes,
        measurement.estimate,
    )
    words = (measurement.artifact, measurement.accelerator, measurement.engine, measurement.at)
    return (
        measurement if all(type(each) is int for each in numbers) and all(type(each) is str for each in words) else None
    )
