"""Opens a model in a folder of a store: an artifact, any folder with config.json and safetensors, or one GGUF file.

`open_model` reads configs and headers alone. `bring` fills a local folder with the files, each proven by the sha256
that the artifact's manifest or the store declares; those that an earlier run brought are kept.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from ftm_jobs.artifacts.fetch import FILES_AT_ONCE, checked_artifact, fetch_file, readers_of
from ftm_jobs.artifacts.manifest import corrupt, read_manifest
from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_base_config
from ftm_jobs.checkpoint.headers import Header
from ftm_jobs.checkpoint.source_files import companions, earlier_files, folders_of, pinned, stats_of
from ftm_jobs.checkpoint.sources import refuse_quantized_config
from ftm_jobs.checkpoint.weight_files import WeightFiles, list_files, read_json, read_weight_files
from ftm_jobs.contract.config import ModelConfig
from ftm_jobs.contract.manifest import Manifest, ManifestFile, ManifestInput
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Stat, Store, open_store
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import copy, sha256_of

GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True)
class StoredModel:
    store: Store
    digest: str
    """Digest of manifest.json; of the model's files where there is none."""
    files: tuple[Stat, ...]
    """All that belongs to the model."""
    manifest: Manifest | None = None
    """None where the folder is no artifact."""
    content: Mapping[str, object] = field(default_factory=dict, repr=False)
    """All of config.json; empty for GGUF."""
    weights: WeightFiles = field(default_factory=lambda: WeightFiles(()), repr=False)
    """Empty for GGUF."""
    gguf: Stat | None = None
    """The one GGUF file, if the model is that."""

    @property
    def key(self) -> str:
        """The artifact's key; the digest of a model that is none."""
        return self.manifest.key if self.manifest else self.digest

    @property
    def input(self) -> ManifestInput:
        """The model as a manifest names it."""
        return ManifestInput(role="merged", uri=self.store.uri, digest=self.digest)

    @cached_property
    def config(self) -> ModelConfig:
        """config.json as it is understood. Raises InvalidInput (InvalidConfig)."""
        return parse_base_config(self.store.describe(CONFIG_FILE), self.content)

    @property
    def headers(self) -> tuple[Header, ...]:
        """Headers of the weight files."""
        return self.weights.headers

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weight_bytes(self) -> int:
        return self.weights.tensor_bytes


def open_model(source: Source) -> StoredModel:
    """Opens a model of any kind.

    Raises InvalidInput when there is no model, or not the one of `source.digest`, and what stores raise.
    """
    store = open_store(source)
    files = list_files(store)
    manifest, digest, stats = None, None, {}
    if written := read_manifest(store, files):
        manifest, text = written
        digest = checked_artifact(store, source, files, manifest, text).digest
        stats = {file.path: Stat(file.path, file.size, f"sha256:{file.sha256}") for file in manifest.files}
        files = {path: stat.size for path, stat in stats.items()}
    if gguf := _gguf_file(store, files):
        stats = stats or stats_of(store, [gguf, *companions(store, files, ())])
        digest = digest or pinned(store, source, {gguf: stats[gguf]}, ()).digest
        return StoredModel(store, digest, tuple(stats.values()), manifest, gguf=stats[gguf])
    content, weights = read_json(store, files, CONFIG_FILE), read_weight_files(store, files)
    if digest is None:
        stats = stats_of(store, [*weights.names, *companions(store, files, folders_of(store))])
        taken = pinned(store, source, stats, earlier_files(weights.names, stats))
        digest, stats = taken.digest, taken.stats
    return StoredModel(store, digest, tuple(stats.values()), manifest, content, weights)


def open_unquantized_model(source: Source) -> StoredModel:
    """Opens a model that can be quantized. Raises as `open_model`, and for GGUF and a config that is quantized."""
    model = open_model(source)
    if model.gguf:
        raise InvalidInput(
            Reason.MISSING_FILE, f"{model.store.uri} has no {CONFIG_FILE}, so it is no merged model: name one that is"
        )
    refuse_quantized_config(model.store, {file.path: file.size for file in model.files}, model.content)
    return model


def bring(model: StoredModel, folder: Path) -> None:
    """Fills `folder` with the model's files; those that are there already and right are kept.

    On the local disk they become links. Raises InvalidInput (CorruptArtifact, CorruptSource) and what stores raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("fetch", model.total_bytes)
    bring_one = partial(bring_file, model, folder, progress)
    for _ in in_order(bring_one, model.files, threads=FILES_AT_ONCE, ahead=2 * FILES_AT_ONCE):
        pass
    progress.close()


def bring_file(model: StoredModel, folder: Path, progress: Progress, file: Stat) -> None:
    """Brings one file, as `bring` does."""
    (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
    if isinstance(model.store, FileStore):
        sha256 = sha256_of(model.store, file.path, file.size, progress)
        if file.sha256 not in (None, sha256):
            raise corrupt(model.store.describe(file.path), f"has sha256 {sha256}, not {file.sha256}")
        (folder / file.path).unlink(missing_ok=True)
        (folder / file.path).symlink_to(model.store.root / file.path)
    elif model.manifest and file.sha256:
        listed = ManifestFile(path=file.path, size=file.size, sha256=file.sha256)
        fetch_file(model.store, folder, progress, listed, readers=readers_of(file.size, model.total_bytes))
    elif not is_there(folder / file.path, file, progress):
        copy(model.store, file, FileStore(folder), progress)


def _gguf_file(store: Store, files: Mapping[str, int]) -> str | None:
    names = sorted(name for name in files if name.endswith(GGUF_SUFFIX))
    if len(names) > 1:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE, f"{store.uri} holds {', '.join(names[:3])}: name a folder with one GGUF file"
        )
    return names[0] if names else None


def is_there(path: Path, file: Stat, progress: Progress) -> bool:
    """Returns whether the file lies at `path` and has the sha256 that its store declares."""
    if file.sha256 is None or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        right = hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    if right:
        progress.add(file.size)
    return right
