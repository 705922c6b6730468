"""Quantizes a model into one artifact per key, which is complete once its manifest.json exists.

    1. Open the model, a merged artifact or a plain folder, and refuse what headers and configs rule out.
    2. An artifact that is complete under the key is reused.
    3. Bring the model to a scratch folder, each file proven by its sha256. Files of a local disk are read in place.
    4. Convert, in the scratch folder.
    5. Upload every file that came out, hashed on the way; the manifest last, by a conditional write.

Whatever ends a run before the manifest leaves nothing that looks complete. The scratch folder is removed; a run that
was killed left it, and the next one of its key keeps what was fetched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from pathlib import Path

from ftm_jobs.artifacts.manifest import read_manifest
from ftm_jobs.artifacts.publish import model_report, published_once
from ftm_jobs.checkpoint.stored_model import StoredModel, bring, open_unquantized_model
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest, ManifestFile, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import Failed, Reason, StepError
from ftm_jobs.runtime.caller import more_memory
from ftm_jobs.runtime.limits import memory_limit
from ftm_jobs.runtime.out_of_memory import is_out_of_memory
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.runtime.scratch import VARIABLE, emptied, scratch, scratch_root
from ftm_jobs.stores import Stat, WritableStore, open_artifacts
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.names import is_plain_path
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import copy


@dataclass(frozen=True)
class Quantized:
    """Describes what a quantizer made, for the manifest and for people."""

    quantization: Mapping[str, str | int | bool]
    """The manifest's fields: method, type or bits and group size, engine."""
    notes: tuple[str, ...] = ()
    """Sentences for people: tensors that fell back to another type, widths that were padded."""
    measurements: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One way to quantize, with all that it was asked."""

    recipe: int
    key: Callable[[str], str]
    """Makes the artifact's key from the model's."""
    convert: Callable[[Path, Path], Quantized]
    """Reads the model's folder and fills an empty one. May raise InvalidInput and Failed."""
    check: Callable[[StoredModel], None] = lambda _: None
    """Refuses a model by its headers and configs, before anything is fetched."""
    disk_bytes: Callable[[StoredModel], int] = lambda model: model.total_bytes
    """Bytes that `convert` writes at most, the result included."""
    memory_bytes: Callable[[StoredModel], int] = lambda model: model.total_bytes
    """Bytes of memory that `convert` needs, roughly; told when memory runs out."""
    inputs: tuple[ManifestInput, ...] = ()
    """Besides the model."""
    tools: Mapping[str, str] = field(default_factory=dict)


def quantize(source: Source, artifacts: Source, method: Method) -> Report:
    """Puts the quantized model under its key. Raises InvalidInput and Failed; then no artifact looks complete."""
    model = open_unquantized_model(source)
    key = method.key(model.key)
    target = open_artifacts(artifacts).child(key)
    artifact, reused = published_once(target, key, lambda: _make(model, method, key, target))
    return _report(artifact, _notes(target), reused=reused)


def _make(model: StoredModel, method: Method, key: str, target: WritableStore) -> Manifest:
    method.check(model)
    brought = 0 if isinstance(model.store, FileStore) else model.total_bytes
    with scratch(key, brought + method.disk_bytes(model)) as folder:
        bring(model, folder / "model")
        out = folder / "out"
        emptied(out)
        quantized = _converted(model, method, folder / "model", out)
        files = _upload(out, target)
    return Manifest(
        key=key,
        step=Step.QUANTIZE,
        recipe=method.recipe,
        inputs=(model.input, *method.inputs),
        quantization=dict(quantized.quantization),
        files=tuple(files),
        tools=dict(method.tools),
        measurements=dict(quantized.measurements),
        notes=quantized.notes,
    )


def _converted(model: StoredModel, method: Method, folder: Path, out: Path) -> Quantized:
    """Raises what `convert` does; of memory and disk that ran out it is said what there was and what is needed."""
    try:
        return method.convert(folder, out)
    except StepError as error:
        if error.reason is Reason.OUT_OF_MEMORY:
            raise _out_of_memory(model, method) from error
        if error.reason is Reason.DISK_FULL:
            raise _disk_full(model, method) from error
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(model, method) from error
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        raise _disk_full(model, method) from error


def _disk_full(model: StoredModel, method: Method) -> Failed:
    return Failed(
        Reason.DISK_FULL,
        f"{scratch_root()}: no space left on the disk, and this step needs some "
        f"{format_bytes(method.disk_bytes(model))} there: give it a larger volume, or name another "
        f"folder in {VARIABLE}",
    )


def _out_of_memory(model: StoredModel, method: Method) -> Failed:
    return Failed(
        Reason.OUT_OF_MEMORY,
        f"memory ran out: it had {format_bytes(memory_limit())} and needs some "
        f"{format_bytes(method.memory_bytes(model))}: {more_memory()}",
    )


def _upload(out: Path, target: WritableStore) -> list[ManifestFile]:
    made = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if not path.is_dir()}
    for name, path in made.items():
        if not path.is_file() or not is_plain_path(name) or name == MANIFEST_NAME:
            raise Failed(Reason.INTERNAL_ERROR, f"the quantizer made {name!r}, which is no file of a model")
    stats = [Stat(name, path.stat().st_size, "") for name, path in made.items()]
    progress = Progress("upload", sum(stat.size for stat in stats))
    files = [copy(FileStore(out), stat, target, progress) for stat in stats]
    progress.close()
    return files


def _notes(target: WritableStore) -> tuple[str, ...]:
    manifest = read_manifest(target, target.list())
    return manifest[0].notes if manifest else ()


def _report(artifact: Artifact, notes: tuple[str, ...], *, reused: bool) -> Report:
    reason = Reason.ALREADY_QUANTIZED if reused else Reason.QUANTIZED
    return model_report(Step.QUANTIZE, "quantized", reason, artifact, notes=notes, reused=reused)
