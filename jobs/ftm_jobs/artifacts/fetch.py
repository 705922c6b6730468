"""Fetches an artifact's files into a local folder, each proven by its sha256, its manifest last.

Runs in an image without torch, numpy and safetensors. A file appears by rename once its sha256 is right, so whoever
reads the folder never sees half a file; a second run keeps what is right and fetches the rest.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from ftm_jobs.artifacts.manifest import artifact, corrupt, list_artifact, read_manifest
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Store, open_store
from ftm_jobs.stores.source import Source

FILES_AT_ONCE = 3
READERS_PER_FILE = 6
BLOCKS_PER_FILE = 8


def fetch(source: Source, folder: Path) -> Report:
    """Fills the folder with the artifact.

    Raises InvalidInput when it is missing, incomplete or corrupt, Failed when a retry may help.
    """
    store = open_store(source)
    files = store.list()
    written = read_manifest(store, files)
    if written is None:
        raise InvalidInput(
            Reason.MISSING_FILE if files else Reason.SOURCE_NOT_FOUND,
            f"{store.uri} has no {MANIFEST_NAME}, so no complete artifact is there: merge first, or correct the URI",
        )
    manifest, text = written
    result = checked_artifact(store, source, files, manifest, text)
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        progress = Progress("fetch", sum(file.size for file in manifest.files))
        fetch_one = partial(fetch_file, store, folder, progress)
        kept = sum(in_order(fetch_one, manifest.files, threads=FILES_AT_ONCE, ahead=2 * FILES_AT_ONCE))
        progress.close()
        _write_manifest(folder, text)
    except OSError as error:
        raise explain(error, str(folder)) from error
    reused = kept == len(manifest.files)
    fetched = "all of them were there already" if reused else f"{len(manifest.files) - kept} of them fetched"
    return Report(
        step=Step.FETCH,
        outcome=Outcome.DONE,
        reason=Reason.FETCHED,
        message=f"{folder} holds {result.files} files, {format_bytes(result.total_bytes)}, of {store.uri}; {fetched}",
        artifact=result,
        reused=reused,
    )


def checked_artifact(
    store: Store, source: Source, files: Mapping[str, int], manifest: Manifest, text: bytes
) -> Artifact:
    """Returns the artifact, once its digest is what `source` says and all its files are listed in their sizes.

    `files` is what `store.list` found. Raises InvalidInput (SourceChanged, CorruptArtifact).
    """
    result = artifact(store, manifest, text)
    if source.digest and source.digest != result.digest:
        raise InvalidInput(
            Reason.SOURCE_CHANGED,
            f"{store.describe(MANIFEST_NAME)} has digest {result.digest}, not {source.digest}: build it again",
        )
    files = list_artifact(store, files, manifest)
    for file in manifest.files:
        if file.path not in files:
            raise corrupt(store.describe(file.path), "is missing, though the manifest names it")
        if files[file.path] != file.size:
            raise corrupt(store.describe(file.path), f"has {files[file.path]} bytes, not {file.size}")
    return result


def fetch_file(store: Store, folder: Path, progress: Progress, file: ManifestFile) -> bool:
    """Fetches one file and proves its sha256; returns True when it was there already and right."""
    target = folder / file.path
    if _is_right(target, file):
        progress.add(file.size)
        return True
    aside = target.with_name(f".{target.name}.{file.sha256[:16]}.partial")
    digest = hashlib.sha256()

    def read(offset: int) -> bytearray:
        return store.read(file.path, offset, min(store.block_bytes, file.size - offset))

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        with aside.open("xb", buffering=0) as output:
            offsets = range(0, file.size, store.block_bytes)
            for data in in_order(read, offsets, threads=READERS_PER_FILE, ahead=BLOCKS_PER_FILE):
                digest.update(data)
                _write(output.fileno(), data)
                progress.add(len(data))
        if digest.hexdigest() != file.sha256:
            raise corrupt(store.describe(file.path), f"has sha256 {digest.hexdigest()}, not {file.sha256}")
        aside.replace(target)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return False


def _is_right(target: Path, file: ManifestFile) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != file.size:
        return False
    with target.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _write(descriptor: int, data: bytearray) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def _write_manifest(folder: Path, text: bytes) -> None:
    aside = folder / f".{MANIFEST_NAME}.partial"
    aside.write_bytes(text)
    aside.replace(folder / MANIFEST_NAME)
