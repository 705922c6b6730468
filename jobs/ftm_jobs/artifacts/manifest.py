"""Reads and writes an artifact's manifest.json: it is written last, and distrusted when read.

Whoever holds a Manifest from `read_manifest` may use its paths as file names: each stays in the artifact's own folder.
"""

import hashlib
import json
import re
from collections.abc import Mapping

from pydantic import ValidationError

from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores import Store
from ftm_jobs.stores.names import is_plain_path

LARGEST_MANIFEST_BYTES = 16 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


def encode(manifest: Manifest) -> bytes:
    """Returns the manifest as it is written; equal manifests give equal bytes."""
    return (json.dumps(manifest.to_json(), indent=2, sort_keys=True) + "\n").encode()


def read_manifest(store: Store, files: dict[str, int]) -> tuple[Manifest, bytes] | None:
    """Returns the artifact's manifest and its bytes; None when there is none, so that the artifact is not complete.

    `files` is what `store.list` found. Raises InvalidInput (CorruptArtifact) for a manifest that cannot be trusted.
    """
    if MANIFEST_NAME not in files:
        return None
    label = store.describe(MANIFEST_NAME)
    if files[MANIFEST_NAME] > LARGEST_MANIFEST_BYTES:
        raise corrupt(label, f"has {files[MANIFEST_NAME]} bytes, more than {LARGEST_MANIFEST_BYTES}")
    text = bytes(store.read(MANIFEST_NAME, 0, files[MANIFEST_NAME]))
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise corrupt(label, f"is malformed at {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    seen = {MANIFEST_NAME}
    for file in manifest.files:
        if not is_plain_path(file.path) or file.path in seen:
            raise corrupt(label, f"names the file {file.path[:200]!r}, which is not a plain name of its own")
        if file.size < 0 or not _SHA256.fullmatch(file.sha256):
            raise corrupt(label, f'has a wrong size or sha256 for "{file.path}"')
        seen.add(file.path)
    return manifest, text


def list_artifact(store: Store, files: Mapping[str, int], manifest: Manifest) -> dict[str, int]:
    """Returns `files`, which `store.list` found, and the files in those folders that the manifest names."""
    listed = dict(files)
    for folder in sorted(folders_of(manifest)):
        listed |= store.list_folder(folder)
    return listed


def folders_of(manifest: Manifest) -> set[str]:
    """Returns the folders directly in the artifact's that the manifest names files of."""
    return {file.path.partition("/")[0] for file in manifest.files if "/" in file.path}


def artifact(store: Store, manifest: Manifest, text: bytes) -> Artifact:
    return Artifact(
        key=manifest.key,
        uri=store.uri,
        digest=f"sha256:{hashlib.sha256(text).hexdigest()}",
        total_bytes=sum(file.size for file in manifest.files),
        files=len(manifest.files),
    )


def corrupt(label: str, text: str) -> InvalidInput:
    return InvalidInput(Reason.CORRUPT_ARTIFACT, f"{label} {text}: delete the artifact, so that it is made again")
