"""Claims the folder that a person named for a merge, which may hold something else.

A marker with the merge's key is written before anything else and removed at the end, so that a folder is filled by one
merge only, a killed merge can be run again, and a model that is there already is never written over.
"""

import json
from contextlib import suppress

from ftm_jobs.artifacts.manifest import read_manifest
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.errors import InvalidInput, Reason, StepError
from ftm_jobs.stores import WritableStore

MARKER = "merge-in-progress.json"
LARGEST_MARKER_BYTES = 1024


def claim(target: WritableStore, key: str) -> None:
    """Marks the folder as this merge's.

    Raises InvalidInput (DestinationTaken) when the folder holds anything but this merge, finished or not.
    """
    if not check(target, key) and not target.put_if_absent(MARKER, json.dumps({"key": key}).encode()):
        _check_marker(target, key, target.list().get(MARKER, 0))


def check(target: WritableStore, key: str | None) -> dict[str, int]:
    """Returns the files in the folder, which are this merge's; without a key, those of any merge.

    Raises InvalidInput (DestinationTaken).
    """
    files = target.list()
    if MARKER in files:
        if key is not None:
            _check_marker(target, key, files[MARKER])
    elif MANIFEST_NAME in files:
        stored = read_manifest(target, files)
        if stored is None or key not in (None, stored[0].key):
            raise _taken(f"{target.uri} holds another artifact")
    elif files:
        raise _taken(f'{target.uri} is not empty, it holds "{min(files)[:100]}"')
    return files


def release(target: WritableStore) -> None:
    """Removes the mark of a merge that is complete."""
    if MARKER in target.list():
        target.delete(MARKER)


def release_if_empty(target: WritableStore) -> None:
    """Removes the mark of a merge that failed before it wrote anything, so that the folder is as it was."""
    with suppress(StepError):
        if set(target.list()) == {MARKER}:
            target.delete(MARKER)


def _check_marker(target: WritableStore, key: str, size: int) -> None:
    content = bytes(target.read(MARKER, 0, min(size, LARGEST_MARKER_BYTES)))
    if content != json.dumps({"key": key}).encode():
        raise _taken(f"{target.uri} holds a part of another merge ({MARKER})")


def _taken(label: str) -> InvalidInput:
    return InvalidInput(Reason.DESTINATION_TAKEN, f"{label}: name a folder that is empty, or empty this one")
