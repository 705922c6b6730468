"""Folders of models as verification reads them."""

from pathlib import Path

from ftm_jobs.checkpoint import read_headers
from ftm_jobs.stores.file import FileStore
from ftm_jobs.tensor_source import StoredTensors


def stored(folder: Path) -> StoredTensors:
    store = FileStore(folder)
    files = {name: size for name, size in store.list().items() if name.endswith(".safetensors")}
    return StoredTensors(store, read_headers(store, files))
