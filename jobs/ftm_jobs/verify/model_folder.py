"""A model as verification opens it: what is small lies in a local folder, tensors stay where they are.

A model is an artifact with a manifest, or any folder with config.json and safetensors, or with one GGUF file. The
GGUF file alone is fetched whole, since llama.cpp maps it into memory.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftm_jobs.artifacts.manifest import artifact, read_manifest
from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_json
from ftm_jobs.checkpoint.index import INDEX_FILE, weight_files
from ftm_jobs.checkpoint.sources import read_headers, source_digest, stats_of
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores import Store, open_store
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.names import is_plain_name
from ftm_jobs.stores.source import Source
from ftm_jobs.verify.tensors.sources import StoredTensors

GGUF_SUFFIX = ".gguf"
LARGEST_SMALL_BYTES = 64 * 1024 * 1024
_SMALL_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken")


@dataclass(frozen=True)
class ModelFolder:
    uri: str
    digest: str
    """Of manifest.json, or of the folder's files where there is none."""
    local: Path
    """Config and tokenizer."""
    manifest: Manifest | None
    config: Mapping[str, Any]
    """Empty for GGUF."""
    tensors: StoredTensors | None
    """None for GGUF."""
    gguf: Path | None

    @property
    def quantization(self) -> Mapping[str, Any]:
        found = self.config.get("quantization_config")
        return found if isinstance(found, dict) else {}


def open_model(source: Source, scratch: Path) -> ModelFolder:
    """`scratch` is an empty folder for the small files. Raises InvalidInput when this is no model."""
    store = open_store(source)
    files = {name: size for name, size in store.list().items() if is_plain_name(name)}
    if not files:
        raise InvalidInput(Reason.SOURCE_NOT_FOUND, f"{store.uri} holds no files: upload them or correct the URI")
    found = read_manifest(store, files)
    digest = artifact(store, *found).digest if found else None
    ggufs = sorted(name for name in files if name.endswith(GGUF_SUFFIX))
    copy_small_files(store, files, scratch)
    if ggufs:
        if len(ggufs) > 1:
            raise InvalidInput(
                Reason.UNSUPPORTED_BASE, f"{store.uri} holds {', '.join(ggufs[:3])}: name a folder with one GGUF file"
            )
        size = files[ggufs[0]]
        path = _fetched(store, ggufs[0], size, found[0] if found else None, scratch)
        digest = digest or source_digest([store.stat(ggufs[0])])
        model = ModelFolder(store.uri, digest, scratch, found[0] if found else None, {}, None, path)
    else:
        if CONFIG_FILE not in files:
            raise InvalidInput(Reason.MISSING_FILE, f"{store.uri} has no {CONFIG_FILE}: upload it or correct the URI")
        config = parse_json(store.describe(CONFIG_FILE), (scratch / CONFIG_FILE).read_bytes())
        headers = _headers(store, files)
        digest = digest or source_digest(stats_of(store, files).values())
        tensors = StoredTensors(store, headers)
        model = ModelFolder(store.uri, digest, scratch, found[0] if found else None, config, tensors, None)
    if source.digest and source.digest != digest:
        raise InvalidInput(Reason.SOURCE_CHANGED, f"{store.uri} has digest {digest}, not {source.digest}: build again")
    return model


def copy_small_files(store: Store, files: Mapping[str, int], folder: Path) -> None:
    """Configs and tokenizer; code that lies beside a model is left where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        if name != MANIFEST_NAME and name.endswith(_SMALL_SUFFIXES) and size <= LARGEST_SMALL_BYTES:
            (folder / name).write_bytes(store.read(name, 0, size) if size else b"")


def _headers(store: Store, files: Mapping[str, int]) -> Any:
    index = None
    if INDEX_FILE in files:
        index = parse_json(
            store.describe(INDEX_FILE), bytes(store.read(INDEX_FILE, 0, files[INDEX_FILE])), Reason.INVALID_INDEX
        )
    names = weight_files(store.uri, index, files)
    return read_headers(store, {name: files[name] for name in names})


def _fetched(store: Store, name: str, size: int, manifest: Manifest | None, scratch: Path) -> Path:
    if isinstance(store, FileStore):
        return store.root / name
    digest, path = hashlib.sha256(), scratch / name
    with path.open("wb") as file:
        for offset in range(0, size, store.block_bytes):
            block = store.read(name, offset, min(store.block_bytes, size - offset))
            digest.update(block)
            file.write(block)
    wanted = {file.path: file.sha256 for file in manifest.files}.get(name) if manifest else None
    if wanted and wanted != digest.hexdigest():
        raise InvalidInput(
            Reason.CORRUPT_ARTIFACT,
            f"{store.describe(name)} has sha256 {digest.hexdigest()}, not {wanted}: delete the artifact, so that it "
            "is made again",
        )
    return path
