"""Fetches an artifact's files but for the weights, which an engine streams from the store by itself.

What is fetched is proven by its sha256. Of the weights only what the store says of them is checked: their sizes, and
their sha256 where it declares one. Whether the bytes are the ones that were written is not proven.
"""

from functools import partial
from pathlib import Path

from ftm_jobs.artifacts.fetch import FILES_AT_ONCE, fetch_files, open_artifact
from ftm_jobs.artifacts.manifest import corrupt
from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.stores import Store, open_store
from ftm_jobs.stores.source import Source

WEIGHTS = ".safetensors"


def fetch_beside_weights(source: Source, folder: Path) -> Report:
    """Fills the folder. Raises InvalidInput and Failed as `fetch` does."""
    store = open_store(source)
    manifest, text, result = open_artifact(store, source)
    weights = [file for file in manifest.files if file.path.endswith(WEIGHTS)]
    others = [file for file in manifest.files if not file.path.endswith(WEIGHTS)]
    list(in_order(partial(_check_declared, store), weights, threads=FILES_AT_ONCE, ahead=2 * FILES_AT_ONCE))
    report = fetch_files(store, others, folder.absolute(), text, result)
    count = f"{len(weights)} file{'' if len(weights) == 1 else 's'} of weights"
    return report.model_copy(update={"message": f"{report.message}; {count} left to the engine, of the right size"})


def _check_declared(store: Store, file: ManifestFile) -> None:
    declared = store.stat(file.path).sha256
    if declared and declared != file.sha256:
        raise corrupt(store.describe(file.path), f"has sha256 {declared} by the store's word, not {file.sha256}")
