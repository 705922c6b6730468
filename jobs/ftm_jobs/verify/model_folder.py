"""Opens a model for verification: small files are copied to a local folder, tensors stay where they are.

A GGUF file alone is brought whole, since llama.cpp maps it into memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftm_jobs.checkpoint.source_files import copy_companions
from ftm_jobs.checkpoint.stored_model import StoredModel, bring_file, open_model
from ftm_jobs.contract.manifest import Manifest
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source
from ftm_jobs.verify.tensors.sources import StoredTensors


@dataclass(frozen=True)
class ModelFolder:
    model: StoredModel
    local: Path
    """Config and tokenizer."""
    tensors: StoredTensors | None
    """None for GGUF."""

    @property
    def uri(self) -> str:
        return self.model.store.uri

    @property
    def digest(self) -> str:
        return self.model.digest

    @property
    def manifest(self) -> Manifest | None:
        return self.model.manifest

    @property
    def config(self) -> Mapping[str, Any]:
        """Returns all of config.json; empty for GGUF."""
        return self.model.content

    @property
    def quantization(self) -> Mapping[str, Any]:
        """Returns config.json's quantization_config; empty where it has none."""
        section = self.config.get("quantization_config")
        return section if isinstance(section, dict) else {}

    @property
    def gguf_bytes(self) -> int:
        """Bytes of disk that `bring_gguf` needs; 0 where nothing is brought."""
        return 0 if self.model.gguf is None or isinstance(self.model.store, FileStore) else self.model.gguf.size


def open_model_folder(source: Source, local: Path) -> ModelFolder:
    """Opens a model; `local` is an empty folder for the small files. Raises InvalidInput when this is no model."""
    model = open_model(source)
    copy_companions(model.store, model.files, local, of_artifact=model.manifest is not None)
    tensors = None if model.gguf else StoredTensors(model.store, model.headers)
    return ModelFolder(model, local, tensors)


def bring_gguf(folder: ModelFolder, scratch: Path) -> Path | None:
    """Brings the GGUF file into `scratch`, proven by its sha256, unless it is there already; None for other models."""
    file = folder.model.gguf
    if file is None:
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    progress = Progress("fetch", file.size)
    bring_file(folder.model, scratch, progress, file)
    progress.close()
    return scratch / file.path
