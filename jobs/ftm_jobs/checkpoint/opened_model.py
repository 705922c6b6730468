"""A model that a step reads whole: a merged artifact, or any folder that holds a model.

`open_model` reads configs and headers alone. `bring` makes a local folder of the files, each proven by the sha256 that
the artifact's manifest or the store declares.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ftm_jobs.artifacts.fetch import FILES_AT_ONCE, check_listing, fetch_file
from ftm_jobs.artifacts.manifest import artifact, corrupt, read_manifest
from ftm_jobs.checkpoint.configs import CONFIG_FILE, BaseConfig, parse_base_config, parse_json
from ftm_jobs.checkpoint.headers import Header
from ftm_jobs.checkpoint.index import INDEX_FILE, weight_files
from ftm_jobs.checkpoint.sources import load_base, read_headers
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile, ManifestInput
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Stat, Store, open_store
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import copy, sha256_of


@dataclass(frozen=True)
class OpenedModel:
    store: Store
    key: str
    """The merged artifact's; the digest of a model that is none."""
    input: ManifestInput
    """How a manifest names it."""
    config: BaseConfig
    headers: tuple[Header, ...]
    """Of the weight files."""
    files: tuple[Stat, ...]
    """All that belongs to the model."""
    merged: bool
    """It is an artifact, so that a file that is not as declared is to be made again, not to be uploaded again."""

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.size for header in self.headers for tensor in header.tensors.values())


def open_model(source: Source) -> OpenedModel:
    """Raises InvalidInput when there is no model, or not the one of `source.digest`, and what stores raise."""
    store = open_store(source)
    files = store.list()
    found = read_manifest(store, files)
    if found is None:
        base = load_base(store, source)
        plain = ManifestInput(role="merged", uri=store.uri, digest=base.digest)
        stats = tuple(base.stats.values())
        return OpenedModel(store, base.digest, plain, base.config, base.headers, stats, merged=False)
    return _artifact(store, source, files, *found)


def _artifact(store: Store, source: Source, files: dict[str, int], manifest: Manifest, text: bytes) -> OpenedModel:
    result = artifact(store, manifest, text)
    if source.digest and source.digest != result.digest:
        raise InvalidInput(
            Reason.SOURCE_CHANGED,
            f"{store.describe(MANIFEST_NAME)} has digest {result.digest}, not {source.digest}: merge again",
        )
    check_listing(store, manifest.files, files)
    sizes = {file.path: file.size for file in manifest.files}
    if CONFIG_FILE not in sizes:
        raise InvalidInput(
            Reason.MISSING_FILE, f"{store.uri} has no {CONFIG_FILE}, so it is no merged model: name one that is"
        )
    config = parse_base_config(store.describe(CONFIG_FILE), _json(store, CONFIG_FILE, sizes))
    index = _json(store, INDEX_FILE, sizes) if INDEX_FILE in sizes else None
    headers = read_headers(store, {name: sizes[name] for name in weight_files(store.uri, index, sizes)})
    stats = tuple(Stat(file.path, file.size, f"sha256:{file.sha256}") for file in manifest.files)
    described = ManifestInput(role="merged", uri=store.uri, digest=result.digest)
    return OpenedModel(store, manifest.key, described, config, headers, stats, merged=True)


def _json(store: Store, name: str, sizes: dict[str, int]) -> dict[str, object]:
    return parse_json(store.describe(name), bytes(store.read(name, 0, sizes[name])))


def bring(model: OpenedModel, folder: Path) -> None:
    """Fill `folder` with the model's files; those that are there already and right are kept.

    On the local disk they become links. Raises InvalidInput (CorruptArtifact, CorruptSource) and what stores raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("fetch", model.total_bytes)
    bring_one = partial(_bring, model, folder, progress)
    for _ in in_order(bring_one, model.files, threads=FILES_AT_ONCE, ahead=2 * FILES_AT_ONCE):
        pass
    progress.close()


def _bring(model: OpenedModel, folder: Path, progress: Progress, file: Stat) -> None:
    if isinstance(model.store, FileStore):
        found = sha256_of(model.store, file.path, file.size, progress)
        if file.sha256 not in (None, found):
            raise corrupt(model.store.describe(file.path), f"has sha256 {found}, not {file.sha256}")
        (folder / file.path).unlink(missing_ok=True)
        (folder / file.path).symlink_to(model.store.root / file.path)
    elif model.merged and file.sha256:
        fetch_file(model.store, folder, progress, ManifestFile(path=file.path, size=file.size, sha256=file.sha256))
    elif not _is_there(folder / file.path, file, progress):
        copy(model.store, file, FileStore(folder), progress)


def _is_there(path: Path, file: Stat, progress: Progress) -> bool:
    if file.sha256 is None or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        right = hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    if right:
        progress.add(file.size)
    return right
