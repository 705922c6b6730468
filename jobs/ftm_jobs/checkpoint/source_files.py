"""Says which files make up a model or an adapter, and derives one digest from them."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from ftm_jobs.artifacts.manifest import corrupt
from ftm_jobs.checkpoint.adapter_config import ADAPTER_CONFIG_FILE
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.weight_files import REQUESTS
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.caller import take_the_new_one
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.stores import Stat, Store
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import check_sha256

LARGEST_SMALL_BYTES = 64 * 1024 * 1024
"""A file that is no weight file and not larger is read to learn its sha256, if the store does not declare it."""
HASHED_AT_ONCE_BYTES = 4 * 1024 * 1024

_CODE_SUFFIX = ".py"
_COPIED_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken", _CODE_SUFFIX)
_COPIED_NAMES = ("LICENSE", "LICENSE.md", "NOTICE", "USE_POLICY.md")
_NOT_COPIED = {MANIFEST_NAME, ADAPTER_CONFIG_FILE, "params.json", "trainer_state.json", "training_args.json"}


def is_companion(name: str) -> bool:
    """Says whether a file belongs to a model beside its weights: config, tokenizer, chat template, code, licence."""
    if name in _NOT_COPIED or (name.endswith(".index.json") and name != INDEX_FILE):
        return False
    return name.endswith(_COPIED_SUFFIXES) or name in _COPIED_NAMES


def copy_companions(store: Store, stats: Iterable[Stat], folder: Path, *, of_artifact: bool = False) -> None:
    """Copies a model's small files into a folder, each proven; code is left where it is.

    Raises InvalidInput (CorruptSource, or CorruptArtifact with `of_artifact`) and what stores raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stat in stats:
        if is_companion(stat.path) and not stat.path.endswith(_CODE_SUFFIX) and stat.size <= LARGEST_SMALL_BYTES:
            content = store.read(stat.path, 0, stat.size) if stat.size else b""
            sha256 = hashlib.sha256(content).hexdigest()
            if of_artifact and sha256 != stat.sha256:
                raise corrupt(store.describe(stat.path), f"has sha256 {sha256}, not {stat.sha256}")
            check_sha256(store, stat, sha256)
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


def source_digest(stats: Iterable[Stat]) -> str:
    """Returns `sha256:…` over the sorted lines `path size identity`."""
    lines = sorted(f"{stat.path} {stat.size} {stat.identity}\n" for stat in stats)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def pinned_digest(store: Store, source: Source, stats: Iterable[Stat]) -> str:
    """Returns the digest of the files. Raises InvalidInput (SourceChanged) when it is not `source.digest`."""
    digest = source_digest(stats)
    if source.digest and source.digest != digest:
        raise InvalidInput(
            Reason.SOURCE_CHANGED,
            f"{store.uri} is no longer what was inspected (digest {digest}, was {source.digest}): "
            + take_the_new_one(),
        )
    return digest


def _identified(store: Store, name: str) -> Stat:
    stat = store.stat(name)
    if stat.sha256 or name.endswith(".safetensors") or stat.size > LARGEST_SMALL_BYTES:
        return stat
    digest = hashlib.sha256()
    for offset in range(0, stat.size, HASHED_AT_ONCE_BYTES):
        digest.update(store.read(name, offset, min(HASHED_AT_ONCE_BYTES, stat.size - offset)))
    return Stat(name, stat.size, f"sha256:{digest.hexdigest()}")
