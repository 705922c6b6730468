"""Says which files make up a model or an adapter, and derives one digest from them."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.artifacts.manifest import corrupt
from ftm_jobs.checkpoint.weight_files import LARGEST_JSON_BYTES, REQUESTS
from ftm_jobs.companions.base_folder import (
    CODE_SUFFIX,
    MODULES_FILE,
    TEMPLATE_FOLDER,
    first_few,
    is_companion,
    is_irrelevant,
    model_folders,
    was_companion,
)
from ftm_jobs.companions.tokenizer_files import is_tokenizer_file
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.caller import advice, take_the_new_one
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.stores import Stat, Store
from ftm_jobs.stores.interface import UNKNOWN
from ftm_jobs.stores.names import is_plain_name, is_plain_path
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import check_sha256

LARGEST_SMALL_BYTES = 64 * 1024 * 1024
"""A file that is no weight file and not larger is read to learn its sha256, if the store does not declare it."""
HASHED_AT_ONCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class SourceFiles:
    """The files that make up a source, and the digest over them."""

    digest: str
    stats: dict[str, Stat]
    """Size and identity of each file, by its path."""
    notes: tuple[str, ...] = ()
    """Sentences for people."""


def folders_of(store: Store) -> set[str]:
    """Returns the names of the folders in a store, but for hidden ones."""
    return set(filter(is_plain_name, store.folders()))


def companions(store: Store, files: Mapping[str, int], folders: Collection[str]) -> dict[str, int]:
    """Returns sizes by path of a model's files beside its weights; `files` and `folders` are what the store lists."""
    modules = None
    if 0 < files.get(MODULES_FILE, 0) <= LARGEST_JSON_BYTES:
        modules = bytes(store.read(MODULES_FILE, 0, files[MODULES_FILE]))
    found = {name: size for name, size in files.items() if is_companion(name)}
    for folder in sorted(model_folders(folders, modules)):
        below = store.list_folder(folder).items()
        found |= {p: size for p, size in below if is_plain_path(p) and not is_irrelevant(p.rpartition("/")[2])}
    return found


def tokenizer_files(store: Store, files: Mapping[str, int], folders: Collection[str]) -> dict[str, int]:
    """Returns sizes by path of a folder's tokenizer files, chat templates included."""
    templates = store.list_folder(TEMPLATE_FOLDER) if TEMPLATE_FOLDER in folders else {}
    return {
        path: size for path, size in {**files, **templates}.items() if is_plain_path(path) and is_tokenizer_file(path)
    }


def copy_companions(store: Store, stats: Iterable[Stat], folder: Path, *, of_artifact: bool = False) -> None:
    """Copies a model's small files into a folder, each proven; code is left where it is.

    Raises InvalidInput (CorruptSource, or CorruptArtifact with `of_artifact`) and what stores raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stat in stats:
        wanted = is_companion(stat.path.rpartition("/")[2]) and not stat.path.endswith(CODE_SUFFIX)
        if wanted and stat.size <= LARGEST_SMALL_BYTES:
            content = store.read(stat.path, 0, stat.size) if stat.size else b""
            sha256 = hashlib.sha256(content).hexdigest()
            if of_artifact and sha256 != stat.sha256:
                raise corrupt(store.describe(stat.path), f"has sha256 {sha256}, not {stat.sha256}")
            check_sha256(store, stat, sha256)
            (folder / stat.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / stat.path).write_bytes(content)


def stats_of(store: Store, names: Sequence[str]) -> dict[str, Stat]:
    """Returns size and identity of each file, by name."""
    return dict(
        zip(
            names,
            in_order(lambda name: _identified(store, name), names, threads=REQUESTS, ahead=REQUESTS),
            strict=True,
        )
    )


def is_identified(stats: Mapping[str, Stat]) -> bool:
    """Returns whether the content of each file is known, by a sha256 or by what its store declares."""
    return all(stat.identity != UNKNOWN for stat in stats.values())


def source_digest(stats: Iterable[Stat]) -> str:
    """Returns `sha256:…` over the sorted lines `path size identity`."""
    lines = sorted(f"{stat.path} {stat.size} {stat.identity}\n" for stat in stats)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def earlier_files(weights: Iterable[str], stats: Iterable[str]) -> set[str]:
    """Returns the files that digests of earlier versions are over: weights, and what those versions copied."""
    return {*weights, *filter(was_companion, stats)}


def pinned(store: Store, source: Source, stats: Mapping[str, Stat], earlier: Collection[str]) -> SourceFiles:
    """Returns the files and their digest, which is `source.digest` if that is given.

    `earlier` are the files that an earlier version read: a digest that it wrote still stands for these alone, so that
    equal keys name equal bytes. Raises InvalidInput (SourceChanged) when the digest is neither.
    """
    digest = source_digest(stats.values())
    if source.digest and source.digest != digest:
        before = {path: stat for path, stat in stats.items() if path in earlier}
        if source.digest == source_digest(before.values()):
            return SourceFiles(source.digest, before, (_earlier_note(store, stats.keys() - before.keys()),))
        raise InvalidInput(
            Reason.SOURCE_CHANGED,
            f"{store.uri} is no longer what was inspected (digest {digest}, was {source.digest}): "
            + take_the_new_one(),
        )
    return SourceFiles(digest, dict(stats))


def _earlier_note(store: Store, missing: Collection[str]) -> str:
    remedy = advice("set the annotation ftm.dev/refresh to take them", "leave the digest out to take them")
    return f"left out, as in the version that inspected {store.uri}: {first_few(sorted(missing))}; {remedy}"


def _identified(store: Store, name: str) -> Stat:
    stat = store.stat(name)
    if stat.sha256 or name.endswith(".safetensors") or stat.size > LARGEST_SMALL_BYTES:
        return stat
    digest = hashlib.sha256()
    for offset in range(0, stat.size, HASHED_AT_ONCE_BYTES):
        digest.update(store.read(name, offset, min(HASHED_AT_ONCE_BYTES, stat.size - offset)))
    return Stat(name, stat.size, f"sha256:{digest.hexdigest()}")
