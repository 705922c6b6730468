"""Says which files a merged model takes from its adapters' folders, and which of the base's it then does without."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ftm_jobs.checkpoint.source_files import LARGEST_SMALL_BYTES
from ftm_jobs.checkpoint.sources import StoredAdapter, StoredBase
from ftm_jobs.companions.base_folder import TEMPLATE_FOLDER
from ftm_jobs.companions.tokenizer_choice import TokenizerChoice, choose_tokenizer
from ftm_jobs.companions.tokenizer_files import (
    DEFAULT,
    OLD_TEMPLATE_FILE,
    TEMPLATE,
    TEMPLATE_FILE,
    TOKENIZER_CONFIG,
    TokenizerContent,
    is_read,
    is_tokenizer_file,
    read_tokenizer,
)
from ftm_jobs.stores import Stat, Store
from ftm_jobs.stores.names import is_plain_name


@dataclass(frozen=True)
class CarriedFiles:
    """Files beside the weights that are not the base's."""

    copied: tuple[tuple[Store, Stat], ...] = ()
    """An adapter's files, which are taken as they are."""
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """Files that are written, by path."""
    dropped: frozenset[str] = frozenset()
    """Paths of the base's files in whose place these stand."""
    notes: tuple[str, ...] = ()
    own_tokenizer: tuple[bool, ...] = ()
    """For each adapter, whether it was trained with another tokenizer or chat template than the base's."""


def carried_files(base: StoredBase, adapters: Sequence[StoredAdapter], rows: int | None) -> CarriedFiles:
    """Reads the tokenizers of a base and its adapters, and decides; `rows` are those of the merged embedding.

    Raises InvalidInput (InvalidConfig, AdapterMismatch), and what stores raise.
    """
    beside = [[stat for path, stat in adapter.stats.items() if is_tokenizer_file(path)] for adapter in adapters]
    if not any(beside):
        return CarriedFiles(own_tokenizer=(False,) * len(adapters))
    of_base = [stat for path, stat in base.stats.items() if is_tokenizer_file(path)]
    same = [_identities(stats) <= _identities(of_base) for stats in beside]
    if all(same):
        return CarriedFiles(own_tokenizer=(False,) * len(adapters))
    read_base = _read(base.store, of_base)
    tokenizers = [
        (read_base if is_same else _read(adapter.store, stats)) if stats else None
        for adapter, stats, is_same in zip(adapters, beside, same, strict=True)
    ]
    choice = choose_tokenizer(read_base, tokenizers, rows)
    sources = [(adapter.store, stats) for adapter, stats in zip(adapters, beside, strict=True)]
    return _carried(choice, read_base, tokenizers, of_base, sources)


def _carried(
    choice: TokenizerChoice,
    base: TokenizerContent,
    tokenizers: Sequence[TokenizerContent | None],
    of_base: Sequence[Stat],
    beside: Sequence[tuple[Store, Sequence[Stat]]],
) -> CarriedFiles:
    """Returns the owner's files, and the templates where they are not the owner's."""
    owner, dropped, copied = base, set[str](), list[tuple[Store, Stat]]()
    if choice.adapter is not None:
        store, stats = beside[choice.adapter]
        owner = tokenizers[choice.adapter] or base
        copied = [(store, stat) for stat in stats]
        dropped = {stat.path for stat in of_base}
    documents: dict[str, bytes] = {}
    if choice.templates != owner.templates:
        documents = _template_documents(owner, choice.templates)
        superseded = {OLD_TEMPLATE_FILE, *documents}
        copied = [(store, stat) for store, stat in copied if stat.path not in superseded]
        dropped |= superseded
    return CarriedFiles(tuple(copied), documents, frozenset(dropped), choice.notes, choice.own)


def _template_documents(owner: TokenizerContent, templates: Mapping[str, str]) -> dict[str, bytes]:
    """Returns files that state the templates in every place that is read.

    transformers takes chat_template.jinja before the field of tokenizer_config.json, llama.cpp's converter the field
    before the file (gguf-py/gguf/vocab.py, SpecialVocab).
    """
    documents = {
        TEMPLATE_FILE if name == DEFAULT else f"{TEMPLATE_FOLDER}/{name}.jinja": text.encode("utf-8", "replace")
        for name, text in templates.items()
        if is_plain_name(name)
    }
    if TEMPLATE in owner.tokenizer_config:
        edited = {name: value for name, value in owner.tokenizer_config.items() if name != TEMPLATE}
        if DEFAULT in templates:
            edited[TEMPLATE] = templates[DEFAULT]
        documents[TOKENIZER_CONFIG] = (json.dumps(edited, indent=2) + "\n").encode()
    return documents


def _identities(stats: Iterable[Stat]) -> set[tuple[str, int, str]]:
    return {(stat.path, stat.size, stat.identity) for stat in stats}


def _read(store: Store, stats: Iterable[Stat]) -> TokenizerContent:
    wanted = [stat for stat in stats if is_read(stat.path) and stat.size <= LARGEST_SMALL_BYTES]
    return read_tokenizer(store.uri, {stat.path: bytes(store.read(stat.path, 0, stat.size)) for stat in wanted})
