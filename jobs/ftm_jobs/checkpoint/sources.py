"""Base models and adapters as they lie in a store: their configs, headers and digests, by range request only.

A weight file is never read whole here (the local disk's store hashes its files, which needs no store traffic).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ftm_jobs.checkpoint.configs import (
    ADAPTER_CONFIG_FILE,
    CONFIG_FILE,
    AdapterConfig,
    BaseConfig,
    parse_adapter_config,
    parse_base_config,
    parse_json,
)
from ftm_jobs.checkpoint.headers import SIZE_BYTES, Header, header_size, parse_header
from ftm_jobs.checkpoint.index import INDEX_FILE, check_index, no_weights, weight_files
from ftm_jobs.checkpoint.quantized_base import CARD_FILE, refuse_quantized
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores import Stat, Store
from ftm_jobs.stores.names import is_plain_name
from ftm_jobs.stores.source import Source

ADAPTER_FILE = "adapter_model.safetensors"
LARGEST_JSON_BYTES = 32 * 1024 * 1024
LARGEST_HASHED_BYTES = 64 * 1024 * 1024
"""A file that is no weight file and not larger is read to learn its sha256, if the store does not declare it."""
HASHED_AT_ONCE_BYTES = 4 * 1024 * 1024
FIRST_READ_BYTES = 128 * 1024
"""Holds most headers, so that one request is enough."""
REQUESTS = 8

_COPIED_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_COPIED_NAMES = ("LICENSE", "LICENSE.md", "NOTICE", "USE_POLICY.md")
_NOT_COPIED = {MANIFEST_NAME, ADAPTER_CONFIG_FILE, "params.json", "trainer_state.json", "training_args.json"}


@dataclass(frozen=True)
class Base:
    store: Store
    digest: str
    config: BaseConfig
    headers: tuple[Header, ...]
    """Of the weight files, in the files' order."""
    stats: dict[str, Stat]
    """Of each file that a merge reads or copies, by name."""
    index: Mapping[str, object] | None = field(default=None, repr=False)
    """model.safetensors.index.json, if there is one."""

    @property
    def tied_embeddings(self) -> bool:
        """As config.json says; where it does not, a base without an output layer of its own is tied."""
        if self.config.tied_embeddings is not None:
            return self.config.tied_embeddings
        return not any("lm_head.weight" in header.tensors for header in self.headers)


@dataclass(frozen=True)
class Adapter:
    store: Store
    digest: str
    config: AdapterConfig
    header: Header
    stats: dict[str, Stat]
    scale: float

    @property
    def file(self) -> str:
        return self.store.describe(ADAPTER_FILE)


def load_base(store: Store, source: Source) -> Base:
    """Raises InvalidInput when the base is missing, malformed, quantized or not the one of `source.digest`."""
    files = _files(store)
    content = _json(store, files, CONFIG_FILE)
    refuse_quantized(store.describe(CONFIG_FILE), store.uri, content, _card(store, files))
    config = parse_base_config(store.describe(CONFIG_FILE), content)
    index = _json(store, files, INDEX_FILE, Reason.INVALID_INDEX) if INDEX_FILE in files else None
    weights = weight_files(store.uri, index, files)
    headers = read_headers(store, {name: files[name] for name in weights})
    check_index(store.uri, index, headers)
    copied = [name for name in files if _is_copied(name) and (name != INDEX_FILE or index is not None)]
    stats = _stats(store, [*weights, *copied])
    return Base(store, _pinned(store, source, stats), config, headers, stats, index)


def load_adapter(store: Store, source: Source) -> Adapter:
    """Raises InvalidInput when the adapter is missing, malformed, of another kind or not the one of `source.digest`."""
    files = _files(store)
    config = parse_adapter_config(store.describe(ADAPTER_CONFIG_FILE), _json(store, files, ADAPTER_CONFIG_FILE))
    if ADAPTER_FILE not in files:
        raise no_weights(store.uri, ADAPTER_FILE, files)
    (header,) = read_headers(store, {ADAPTER_FILE: files[ADAPTER_FILE]})
    stats = _stats(store, [ADAPTER_CONFIG_FILE, ADAPTER_FILE])
    return Adapter(store, _pinned(store, source, stats), config, header, stats, source.scale)


def source_digest(stats: Iterable[Stat]) -> str:
    """sha256 over the sorted lines `path size identity`."""
    lines = sorted(f"{stat.path} {stat.size} {stat.identity}\n" for stat in stats)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def stats_of(store: Store, files: Mapping[str, int]) -> dict[str, Stat]:
    """Of the files that make up a model: weights, configs, tokenizer."""
    return _stats(store, [name for name in files if name.endswith(".safetensors") or _is_copied(name)])


def read_headers(store: Store, sizes: dict[str, int]) -> tuple[Header, ...]:
    """Read and validate the headers of weight files of the given sizes, a request or two for each."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        return tuple(pool.map(lambda name: _header(store, name, sizes[name]), sizes))


def _header(store: Store, name: str, size: int) -> Header:
    what = store.describe(name)
    start = store.read(name, 0, min(size, FIRST_READ_BYTES))
    length = header_size(what, bytes(start[:SIZE_BYTES]), size)
    missing = SIZE_BYTES + length - len(start)
    if missing > 0:
        start += store.read(name, len(start), missing)
    parsed = parse_header(what, bytes(start[SIZE_BYTES : SIZE_BYTES + length]), size)
    return Header(name, parsed.data_offset, parsed.file_size, parsed.tensors)


def _files(store: Store) -> dict[str, int]:
    files = {name: size for name, size in store.list().items() if is_plain_name(name)}
    if not files:
        raise InvalidInput(Reason.SOURCE_NOT_FOUND, f"{store.uri} holds no files: upload them or correct the URI")
    return files


def _json(store: Store, files: dict[str, int], name: str, reason: Reason = Reason.INVALID_CONFIG) -> dict[str, object]:
    what = store.describe(name)
    if name not in files:
        raise InvalidInput(Reason.MISSING_FILE, f"{store.uri} has no {name}: upload it or correct the URI")
    if files[name] > LARGEST_JSON_BYTES:
        raise InvalidInput(reason, f"{what} has {files[name]} bytes, more than {LARGEST_JSON_BYTES}: correct it")
    return parse_json(what, bytes(store.read(name, 0, files[name])), reason)


def _card(store: Store, files: dict[str, int]) -> str:
    """The front of the model card; empty where there is none."""
    size = min(files.get(CARD_FILE, 0), FIRST_READ_BYTES)
    return bytes(store.read(CARD_FILE, 0, size)).decode("utf-8", "replace") if size else ""


def _is_copied(name: str) -> bool:
    if name in _NOT_COPIED or (name.endswith(".index.json") and name != INDEX_FILE):
        return False
    return name.endswith(_COPIED_SUFFIXES) or name in _COPIED_NAMES


def _stats(store: Store, names: Sequence[str]) -> dict[str, Stat]:
    with ThreadPoolExecutor(REQUESTS) as pool:
        return dict(zip(names, pool.map(lambda name: _identified(store, name), names), strict=True))


def _identified(store: Store, name: str) -> Stat:
    stat = store.stat(name)
    if stat.sha256 or name.endswith(".safetensors") or stat.size > LARGEST_HASHED_BYTES:
        return stat
    digest = hashlib.sha256()
    for offset in range(0, stat.size, HASHED_AT_ONCE_BYTES):
        digest.update(store.read(name, offset, min(HASHED_AT_ONCE_BYTES, stat.size - offset)))
    return Stat(name, stat.size, f"sha256:{digest.hexdigest()}")


def _pinned(store: Store, source: Source, stats: dict[str, Stat]) -> str:
    digest = source_digest(stats.values())
    if source.digest and source.digest != digest:
        raise InvalidInput(
            Reason.SOURCE_CHANGED,
            f"{store.uri} is no longer what was inspected (digest {digest}, was {source.digest}): "
            "set the annotation ftm.dev/refresh to take the new one",
        )
    return digest
