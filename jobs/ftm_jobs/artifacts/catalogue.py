"""`artifacts list|show|verify|gc`: what a store of artifacts holds, for people.

Only folders that are named like an artifact are looked at. A folder without a manifest is a merge that runs or that was
killed; gc takes it once nothing in it was written for a day. A kept adapter has a day, too: no resource can name its
key before its Job has ended. An artifact loses its manifest first, so that whatever
stops gc, nothing half removed looks complete.
"""

import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from ftm_jobs.artifacts.manifest import list_artifact, read_manifest
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.keys import ADAPTER_PREFIX, ARTIFACT_KEY
from ftm_jobs.contract.manifest import MANIFEST_NAME, Catalogue, Manifest, ManifestFile, StoredArtifact
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import WritableStore, open_artifacts
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import sha256_of

ABANDONED_AFTER = timedelta(days=1)
FOLDERS_AT_ONCE = 8
_KEY = re.compile(ARTIFACT_KEY)


def list_artifacts(store: Source) -> Catalogue:
    """Everything that is named like an artifact. Raises InvalidInput and Failed as the store does."""
    artifacts = _all(open_artifacts(store))
    complete = [each for each in artifacts if each.complete]
    total = format_bytes(sum(each.total_bytes for each in artifacts))
    message = f"{store.uri}: {len(complete)} complete artifacts, {len(artifacts) - len(complete)} incomplete, {total}"
    return _done(Reason.LISTED, message, artifacts)


def show(store: Source, key: str) -> Catalogue:
    """One artifact and its manifest. Raises InvalidInput when it is not complete."""
    folder = open_artifacts(store).child(_checked(key))
    manifest = _manifest(folder)
    described = _describe(folder, key)
    return _done(Reason.LISTED, f"{folder.uri}: {_size(described)}", [described], manifest)


def verify(store: Source, keys: Sequence[str] = ()) -> Catalogue:
    """Reads every file of the named artifacts, or of all complete ones, and proves its sha256."""
    root = open_artifacts(store)
    wanted = [_checked(key) for key in keys] or [each.key for each in _all(root) if each.complete]
    manifests = {key: _manifest(root.child(key)) for key in wanted}
    progress = Progress("verify", sum(file.size for manifest in manifests.values() for file in manifest.files))
    artifacts = []
    for key, manifest in manifests.items():
        folder = root.child(key)
        files = list_artifact(folder, folder.list(), manifest)
        there = [file for file in manifest.files if files.get(file.path) == file.size]
        notes = [note for file in there if (note := _verify_file(folder, file, progress))]
        described = _describe(folder, key)
        artifacts.append(described.model_copy(update={"notes": (*described.notes, *notes)}))
    progress.close()
    if wrong := [f"{each.key}: {each.notes[0]}" for each in artifacts if each.notes]:
        message = (
            f"{len(wrong)} of {len(artifacts)} artifacts are not as they were written, first {wrong[0]}: delete them"
        )
        return Catalogue(
            outcome=Outcome.INVALID_INPUT, reason=Reason.CORRUPT_ARTIFACT, message=message, artifacts=tuple(artifacts)
        )
    return _done(Reason.VERIFIED, f"{store.uri}: every file of {len(artifacts)} artifacts has its sha256", artifacts)


def gc(store: Source, keep: Collection[str], now: datetime, *, delete: bool) -> Catalogue:
    """Finds, and with `delete` removes, what is not kept and what a killed merge left."""
    root = open_artifacts(store)
    for key in keep:
        _checked(key)
    artifacts = [marked for each in _all(root) if (marked := _garbage(each, keep, now))]
    if delete:
        for artifact in artifacts:
            _remove(root.child(artifact.key))
    total = format_bytes(sum(each.total_bytes for each in artifacts))
    message = f"{store.uri}: {len(artifacts)} artifacts, {total}, " + (
        "are removed" if delete else "can be removed; nothing was, give --delete to do it"
    )
    return _done(Reason.COLLECTED, message, artifacts)


def _all(root: WritableStore) -> list[StoredArtifact]:
    keys = sorted(name for name in root.children() if _KEY.fullmatch(name))
    describe = in_order(
        lambda key: _describe(root.child(key), key), keys, threads=FOLDERS_AT_ONCE, ahead=FOLDERS_AT_ONCE
    )
    return list(describe)


def _describe(folder: WritableStore, key: str) -> StoredArtifact:
    files, written = _all_files(folder), folder.last_written()
    manifest: Manifest | None = None
    try:
        content = read_manifest(folder, files)
        manifest = content[0] if content else None
        notes = _missing(manifest, files, key) if manifest else ["it has no manifest"]
    except InvalidInput as error:
        notes = [error.message]
    return StoredArtifact(
        key=key,
        complete=manifest is not None and not notes,
        total_bytes=sum(files.values()),
        files=len(files),
        written=written,
        inputs=manifest.inputs if manifest else (),
        notes=tuple(notes),
    )


def _missing(manifest: Manifest, files: dict[str, int], key: str) -> list[str]:
    if manifest.key != key:
        return [f"its manifest is of {manifest.key[:100]}"]
    return [
        f"{file.path} has {files[file.path]} bytes, not {file.size}"
        if file.path in files
        else f"{file.path} is missing"
        for file in manifest.files
        if files.get(file.path) != file.size
    ]


def _manifest(folder: WritableStore) -> Manifest:
    written = read_manifest(folder, folder.list())
    if written is None:
        raise InvalidInput(
            Reason.SOURCE_NOT_FOUND, f"{folder.uri} has no {MANIFEST_NAME}: no complete artifact is there; list them"
        )
    return written[0]


def _verify_file(folder: WritableStore, file: ManifestFile, progress: Progress) -> str | None:
    """Returns a note on the file whose bytes are not those of the manifest; None when they are."""
    sha256 = sha256_of(folder, file.path, file.size, progress)
    if sha256 == file.sha256:
        return None
    return f"{file.path} has sha256 {sha256}, not {file.sha256}"


def _garbage(artifact: StoredArtifact, keep: Collection[str], now: datetime) -> StoredArtifact | None:
    """The artifact with the reason why it goes; None when it stays."""
    if artifact.key in keep:
        return None
    young = artifact.written is not None and now - artifact.written < ABANDONED_AFTER
    if young and (not artifact.complete or artifact.key.startswith(ADAPTER_PREFIX)):
        return None
    if artifact.complete:
        return artifact.model_copy(update={"notes": ("nothing refers to it",)})
    days = f"{(now - artifact.written).days} days" if artifact.written else "an unknown time"
    return artifact.model_copy(update={"notes": (*artifact.notes[:1], f"nothing was written to it for {days}")})


def _remove(folder: WritableStore) -> None:
    for name in sorted(_all_files(folder), key=lambda name: name != MANIFEST_NAME):
        folder.delete(name)
    folder.abort_uploads()
    for name in folder.children():
        folder.child(name).abort_uploads()


def _all_files(folder: WritableStore) -> dict[str, int]:
    """Returns sizes by path of all files in the folder and below."""
    files = folder.list()
    for name in folder.folders():
        files |= folder.list_folder(name)
    return files


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise InvalidInput(Reason.INVALID_URI, f'"{key[:100]}" is no artifact\'s key: write one that list shows')
    return key


def _size(artifact: StoredArtifact) -> str:
    return f"{artifact.files} files, {format_bytes(artifact.total_bytes)}"


def _done(
    reason: Reason, message: str, artifacts: Sequence[StoredArtifact], manifest: Manifest | None = None
) -> Catalogue:
    return Catalogue(
        outcome=Outcome.DONE, reason=reason, message=message, artifacts=tuple(artifacts), manifest=manifest
    )
