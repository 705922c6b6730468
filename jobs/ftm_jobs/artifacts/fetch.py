"""Fetches an artifact's files into a local folder, each proven by its sha256, its manifest last.

Ranges come many at a time, and each piece of one is written where it belongs while it is in the processor's cache; the
file is hashed behind them, in its order, from the system's page cache. So memory holds a piece for each range, whatever
a range's size. The readers are shared out by size: a model of one file gets as many as one of many.

Runs in an image without torch, numpy and safetensors. A file appears by rename once its sha256 is right, so whoever
reads the folder never sees half a file; a second run keeps what is right and fetches the rest.
"""

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ftm_jobs.artifacts.manifest import artifact, corrupt, list_artifact, read_manifest
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.runtime.pipeline import Stage, in_order, through
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Store, open_store
from ftm_jobs.stores.interface import PIECE_BYTES
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import at_once

FILES_AT_ONCE = 3
"""As many files are hashed at the same time, each by one thread."""
READERS = 18
"""Ranges that are read at the same time, of all files together."""
FEWEST_READERS = 6
"""Readers of each file, however small its share: so there may be READERS and FILES_AT_ONCE - 1 times as many more."""


def fetch(source: Source, folder: Path) -> Report:
    """Fills the folder with the artifact.

    Raises InvalidInput when it is missing, incomplete or corrupt, Failed when a retry may help.
    """
    store = open_store(source)
    manifest, text, result = open_artifact(store, source)
    return fetch_files(store, manifest.files, folder.absolute(), text, result)


def fetch_files(
    store: Store, files: Sequence[ManifestFile], folder: Path, manifest: bytes, artifact: Artifact
) -> Report:
    """Fills the folder with these files of an artifact, and with its manifest once all of them are right."""
    total_bytes = sum(file.size for file in files)

    def fetch_one(file: ManifestFile) -> bool:
        return fetch_file(store, folder, progress, file, readers=readers_of(file.size, total_bytes))

    try:
        folder.mkdir(parents=True, exist_ok=True)
        progress = Progress("fetch", total_bytes)
        kept = sum(in_order(fetch_one, files, threads=FILES_AT_ONCE, ahead=2 * FILES_AT_ONCE))
        progress.close()
        _write_manifest(folder, manifest)
    except OSError as error:
        raise explain(error, str(folder)) from error
    return fetched(folder, store.uri, [file.size for file in files], kept, artifact)


def fetched(folder: Path, uri: str, sizes: Sequence[int], kept: int, artifact: Artifact | None = None) -> Report:
    """Returns the report of files of these sizes that a folder holds; `kept` of them were there before."""
    done = "all of them were there already" if kept == len(sizes) else f"{len(sizes) - kept} of them fetched"
    return Report(
        step=Step.FETCH,
        outcome=Outcome.DONE,
        reason=Reason.FETCHED,
        message=f"{folder} holds {len(sizes)} files, {format_bytes(sum(sizes))}, of {uri}; {done}",
        artifact=artifact,
        reused=kept == len(sizes),
    )


def open_artifact(store: Store, source: Source) -> tuple[Manifest, bytes, Artifact]:
    """Returns the manifest of the artifact in the store, its bytes, and the artifact, as `checked_artifact` proves it.

    Raises InvalidInput when it is missing, incomplete or not the one that `source` says.
    """
    files = store.list()
    written = read_manifest(store, files)
    if written is None:
        raise InvalidInput(
            Reason.MISSING_FILE if files else Reason.SOURCE_NOT_FOUND,
            f"{store.uri} has no {MANIFEST_NAME}, so no complete artifact is there: merge first, or correct the URI",
        )
    manifest, text = written
    return manifest, text, checked_artifact(store, source, files, manifest, text)


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


def readers_of(size: int, total_bytes: int) -> int:
    """Returns how many ranges of a file of this size are read at once, beside the rest of `total_bytes`."""
    return max(FEWEST_READERS, READERS * size // max(1, total_bytes))


def fetch_file(
    store: Store, folder: Path, progress: Progress, file: ManifestFile, *, readers: int = FEWEST_READERS
) -> bool:
    """Fetches one file and proves its sha256; returns True when it was there already and right."""
    target = folder / file.path
    if is_right(target, file):
        progress.add(file.size)
        return True
    aside = target.with_name(f".{target.name}.{file.sha256[:16]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        with aside.open("x+b", buffering=0) as output:
            sha256 = _transfer(store, file, output.fileno(), progress, readers)
        if sha256 != file.sha256:
            raise corrupt(store.describe(file.path), f"has sha256 {sha256}, not {file.sha256}")
        aside.replace(target)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return False


def _transfer(store: Store, file: ManifestFile, output: int, progress: Progress, readers: int) -> str:
    """Writes the file's bytes to the descriptor and returns the sha256, in hex, of what is there then."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(PIECE_BYTES))

    def bring(start: int) -> range:
        brought = range(start, min(start + store.block_bytes, file.size))
        at = start

        def write(data: memoryview) -> None:
            nonlocal at
            while len(data):
                count = os.pwrite(output, data, at)
                at, data = at + count, data[count:]

        store.read_pieces(file.path, start, len(brought), write)
        return brought

    def see(brought: range) -> None:
        at = brought.start
        while at < brought.stop:
            count = os.preadv(output, [piece[: brought.stop - at]], at)
            if not count:
                raise OSError(errno.EIO, f"ends at byte {at}, though more was written")
            digest.update(piece[:count])
            at += count
        progress.add(len(brought))

    starts = range(0, file.size, store.block_bytes)
    through(starts, bring, [Stage(see, ordered=True)], **at_once(store, readers))
    return digest.hexdigest()


def is_right(target: Path, file: ManifestFile) -> bool:
    """Tells whether a file is there with its size and its sha256; it is read whole."""
    if target.is_symlink() or not target.is_file() or target.stat().st_size != file.size:
        return False
    with target.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _write_manifest(folder: Path, text: bytes) -> None:
    aside = folder / f".{MANIFEST_NAME}.partial"
    aside.write_bytes(text)
    aside.replace(folder / MANIFEST_NAME)
