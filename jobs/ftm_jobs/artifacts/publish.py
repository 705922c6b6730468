"""Makes an artifact complete: its manifest is written last, in one step.

Of two runs of one key the first to end publishes, and the second finds its own files described. Where their bytes
differ, the last to end has written both the files and the manifest.
"""

import hashlib
import logging
from collections.abc import Callable

from ftm_jobs.artifacts.manifest import artifact, corrupt, encode, folders_of, list_artifact, read_manifest
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import Reason, StepError
from ftm_jobs.stores import WritableStore

_LOG = logging.getLogger(__name__)


def complete(target: WritableStore, key: str) -> Artifact | None:
    """Returns the artifact, if its manifest is there and so are its files, in their sizes."""
    files = target.list()
    written = read_manifest(target, files)
    if written is None:
        return None
    manifest, text = written
    if manifest.key != key:
        raise corrupt(target.describe(MANIFEST_NAME), f'is of the artifact "{manifest.key[:100]}"')
    files = list_artifact(target, files, manifest)
    if any(files.get(file.path) != file.size for file in manifest.files):
        return None
    return artifact(target, manifest, text)


def published_once(
    target: WritableStore,
    key: str,
    make: Callable[[], Manifest],
    remove_journal: Callable[[WritableStore], None] | None = None,
) -> tuple[Artifact, bool]:
    """Returns the artifact, and whether it was complete before or another run completed it meanwhile.

    `make` writes its files and returns its manifest. What `make` raises is raised where no other run was done first.
    """
    if artifact := complete(target, key):
        remove_leftovers(target, remove_journal)
        return artifact, True
    try:
        artifact, reused = publish(target, make())
    except StepError:
        meanwhile = _completed_by_another_run(target, key)
        if meanwhile is None:
            raise
        artifact, reused = meanwhile, True
    remove_leftovers(target, remove_journal)
    return artifact, reused


def _completed_by_another_run(target: WritableStore, key: str) -> Artifact | None:
    """Returns the artifact that another run completed meanwhile; None when there is none that can be read."""
    try:
        return complete(target, key)
    except StepError:
        return None


def publish(target: WritableStore, manifest: Manifest) -> tuple[Artifact, bool]:
    """Returns the artifact, and whether another run had published the same files before."""
    text = encode(manifest)
    if target.put_if_absent(MANIFEST_NAME, text):
        return artifact(target, manifest, text), False
    other = read_manifest(target, target.list())
    if other is not None and other[0].files == manifest.files:
        return artifact(target, *other), True
    target.put(MANIFEST_NAME, text)
    return artifact(target, manifest, text), False


def put(target: WritableStore, name: str, content: bytes) -> ManifestFile:
    """Writes a small file of an artifact, and returns what its manifest says of it."""
    target.put(name, content)
    return ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def remove_leftovers(target: WritableStore, remove_journal: Callable[[WritableStore], None] | None = None) -> None:
    """Removes what killed runs left beside an artifact; not being allowed to does not undo the artifact."""
    try:
        target.abort_uploads()
        written = read_manifest(target, target.list())
        for folder in folders_of(written[0]) if written else ():
            target.child(folder).abort_uploads()
        if remove_journal:
            remove_journal(target)
    except StepError as error:
        _LOG.warning("unfinished uploads of killed runs may stay behind: %s", error.message)


def model_report(
    step: Step, participle: str, reason: Reason, artifact: Artifact, *, notes: tuple[str, ...] = (), reused: bool
) -> Report:
    """Returns the report of a step that made a model or found it made; `participle` says how: merged, quantized."""
    files = f"{artifact.files} file{'' if artifact.files == 1 else 's'}"
    where = f"{artifact.uri}: {files}, {format_bytes(artifact.total_bytes)}"
    return Report(
        step=step,
        outcome=Outcome.DONE,
        reason=reason,
        message=f"the {participle} model is already in {where}" if reused else f"{participle} into {where}",
        artifact=artifact,
        notes=notes,
        reused=reused,
    )
