"""How an artifact becomes complete: its manifest is written last, in one step.

Of two runs of one key the first to end publishes, and the second finds its own files described. Where their bytes
differ, the last to end has written both the files and the manifest.
"""

import hashlib

from ftm_jobs.artifacts.manifest import artifact, corrupt, encode, read_manifest
from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest, ManifestFile
from ftm_jobs.errors import StepError
from ftm_jobs.stores import WritableStore


def complete(target: WritableStore, key: str) -> Artifact | None:
    """The artifact, if its manifest is there and so are its files, in their sizes."""
    files = target.list()
    found = read_manifest(target, files)
    if found is None:
        return None
    manifest, text = found
    if manifest.key != key:
        raise corrupt(target.describe(MANIFEST_NAME), f'is of the artifact "{manifest.key[:100]}"')
    if any(files.get(file.path) != file.size for file in manifest.files):
        return None
    return artifact(target, manifest, text)


def completed_by_another_run(target: WritableStore, key: str) -> Artifact | None:
    """Which also removes the uploads of this one."""
    try:
        return complete(target, key)
    except StepError:
        return None


def publish(target: WritableStore, manifest: Manifest) -> tuple[Artifact, bool]:
    """The artifact, and whether another run had published the same files before."""
    text = encode(manifest)
    if target.put_if_absent(MANIFEST_NAME, text):
        return artifact(target, manifest, text), False
    other = read_manifest(target, target.list())
    if other is not None and other[0].files == manifest.files:
        return artifact(target, *other), True
    target.put(MANIFEST_NAME, text)
    return artifact(target, manifest, text), False


def put(target: WritableStore, name: str, content: bytes) -> ManifestFile:
    """Write a small file of an artifact, and how its manifest names it."""
    target.put(name, content)
    return ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
