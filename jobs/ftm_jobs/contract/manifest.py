"""Artifacts and the manifests that make them complete."""

from pydantic import AwareDatetime, Field

from ftm_jobs.contract.base import Contract, Notes
from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.keys import ClassifierTask, OutputDtype, QuantizedBase
from ftm_jobs.contract.steps import Outcome, Step

MANIFEST_NAME = "manifest.json"


class Artifact(Contract):
    """A complete artifact in a store."""

    key: str
    """Its name in the store, derived from its inputs and recipe."""
    uri: str
    """The folder that holds it."""
    digest: str
    """`sha256:…` of its manifest.json."""
    total_bytes: int
    """Bytes of all its files."""
    files: int
    """Number of its files."""


class ManifestFile(Contract):
    path: str
    size: int
    sha256: str


class ManifestInput(Contract):
    """A source as it was read."""

    role: str
    """base or adapter; merged: the artifact that was quantized, with its manifest's digest; calibration."""
    uri: str
    digest: str
    scale: float | None = None


class Manifest(Contract):
    """The last file written: it names an artifact's content and its sources. Equal inputs give equal bytes."""

    schema_version: int = 1
    key: str
    step: Step
    recipe: int
    inputs: tuple[ManifestInput, ...]
    quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION
    max_shard_size: int | None = None
    """In bytes; absent where the weight files are the base's."""
    dtype: OutputDtype | None = None
    """That of all floating tensors; absent where each has the base's."""
    quantization: dict[str, bool | int | str] | None = None
    """method (gguf or awq), and what it was asked: type, or bits, groupSize, zeroPoint and engine."""
    task: ClassifierTask | None = None
    """The classifier that a merge has made; None: a model of the base's class."""
    files: tuple[ManifestFile, ...]
    tools: dict[str, str] = Field(default_factory=dict)
    measurements: dict[str, int | float] = Field(default_factory=dict)
    notes: Notes = ()
    """Remarks on the result, for people: files that were left out, tensors that fell back to another type."""


class StoredArtifact(Contract):
    """A folder of a store that is named like an artifact, whether complete or not."""

    key: str
    complete: bool
    """Its manifest is there and can be read, and so are its files, in their sizes."""
    total_bytes: int
    files: int
    written: AwareDatetime | None = None
    """When something in it was last written."""
    inputs: tuple[ManifestInput, ...] = ()
    notes: tuple[str, ...] = ()
    """Reasons why it is not complete, not as it was written, or to be removed."""


class Catalogue(Contract):
    """Result of `artifacts list|show|verify|gc`: the last line of its stdout."""

    outcome: Outcome
    reason: str
    message: str
    artifacts: tuple[StoredArtifact, ...] = ()
    manifest: Manifest | None = None


class PlannedFile(Contract):
    """A file that a merge would write."""

    path: str
    size: int
    made: str
    """merged: weights that change; copied: the base's; edited: the base's with other fields; or the adapter's."""


class MergePreview(Contract):
    """Says what a merge would do: the last line of stdout of `merge --dry-run`."""

    outcome: Outcome
    reason: str
    message: str
    facts: Facts
    """A digest is empty where it takes hashing the weights to know it."""
    scales: tuple[float, ...]
    """The factor of each adapter."""
    weights_changed: int
    """Tensors that the adapters change."""
    files: tuple[PlannedFile, ...]
    total_bytes: int
    destination: str
    key: str | None = None
    """The artifact's key; absent where it takes hashing the weights to know it."""
    state: str
    """The destination holds this: nothing, this merge or a part of it."""
    notes: Notes = ()
