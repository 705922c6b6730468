"""Fetches a base model as it is stored into a local folder, for an engine that serves it unmerged.

It takes the files that a merge would read or copy, and holds them to the digest that inspect reported. Each is proven
by the sha256 that its store declares, if it does; one that is not declared is read whole under the identity that the
digest is over. Runs in an image without torch, numpy and safetensors. A file appears by rename, and a second run keeps
what is right.
"""

from pathlib import Path

from ftm_jobs.artifacts.fetch import FILES_AT_ONCE, fetched, readers_of
from ftm_jobs.artifacts.journal import Journal
from ftm_jobs.checkpoint.quantized_base import AcceptedWeights
from ftm_jobs.checkpoint.sources import StoredBase, load_base
from ftm_jobs.checkpoint.stored_model import is_there
from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Stat, open_store
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import copy

JOURNAL_NAME = "fetched-files.json"
"""Names the files whose store declares no sha256, with the one that they had."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def fetch_base(source: Source, folder: Path) -> Report:
    """Fills the folder with the base.

    Raises InvalidInput when the base is missing, malformed or not that of `source.digest`, or when the folder holds
    other weights, which the engine would load too; Failed when a retry may help.
    """
    base = load_base(open_store(source), source, AcceptedWeights.ANY)
    target = FileStore(folder.absolute())
    _refuse_other_weights(target, base)
    files = list(base.stats.values())
    journal = Journal(target, base.digest, JOURNAL_NAME)
    total_bytes = sum(file.size for file in files)
    progress = Progress("fetch", total_bytes)

    def bring(file: Stat) -> ManifestFile | None:
        """Returns the file as it was fetched; None where it was there already."""
        if file.sha256:
            kept = is_there(target.root / file.path, file, progress)
        else:
            kept = journal.kept(file.path, file.size, progress) is not None
        readers = readers_of(file.size, total_bytes)
        return None if kept else copy(base.store, file, target, progress, readers=readers)

    brought: list[ManifestFile] = []
    try:
        for file in in_order(bring, files, threads=FILES_AT_ONCE, ahead=2 * FILES_AT_ONCE):
            if file:
                brought.append(file)
                if not base.stats[file.path].sha256:
                    journal.add(file)
    except OSError as error:
        raise explain(error, str(folder)) from error
    progress.close()
    return fetched(target.root, base.store.uri, [file.size for file in files], len(files) - len(brought))


def _refuse_other_weights(target: FileStore, base: StoredBase) -> None:
    others = sorted(name for name in target.list() if name.endswith(_WEIGHTS) and name not in base.stats)
    if others:
        raise InvalidInput(
            Reason.DESTINATION_TAKEN,
            f"{target.root} holds {others[0]}, which is not of {base.store.uri}, and the engine would load it too: "
            "name an empty folder",
        )
