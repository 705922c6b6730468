"""Opens base models and adapters as they lie in a store: their configs, headers and digests."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ftm_jobs.checkpoint.adapter_config import ADAPTER_CONFIG_FILE, AdapterConfig, parse_adapter_config
from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_base_config
from ftm_jobs.checkpoint.embeddings import is_output_layer
from ftm_jobs.checkpoint.headers import Header
from ftm_jobs.checkpoint.index import INDEX_FILE, SINGLE_FILE
from ftm_jobs.checkpoint.quantized_base import CARD_FILE, AcceptedWeights, refuse_quantized
from ftm_jobs.checkpoint.refusals.empty_tensors import refuse_empty_adapter, refuse_empty_base
from ftm_jobs.checkpoint.refusals.missing_files import Contents, missing_adapter_file, missing_base_file
from ftm_jobs.checkpoint.small_files import refuse_broken_files
from ftm_jobs.checkpoint.source_files import (
    companions,
    earlier_files,
    folders_of,
    is_identified,
    pinned,
    stats_of,
    tokenizer_files,
)
from ftm_jobs.checkpoint.weight_files import (
    FIRST_READ_BYTES,
    WeightFiles,
    list_files,
    read_headers,
    read_json,
    read_weight_files,
)
from ftm_jobs.companions.adapter_folder import refuse_trained_weights, unread_notes
from ftm_jobs.companions.base_folder import TEMPLATE_FOLDER, left_out_note
from ftm_jobs.contract.config import ModelConfig
from ftm_jobs.contract.config_fields import SPELLINGS, text_fields
from ftm_jobs.errors import InvalidInput, StepError
from ftm_jobs.stores import Stat, Store, WritableStore
from ftm_jobs.stores.source import Source

ADAPTER_FILE = "adapter_model.safetensors"
MOST_FOLDERS = 100
"""Folders of a folder that are looked into for what is missing in it."""


@dataclass(frozen=True)
class StoredBase:
    store: Store
    digest: str
    config: ModelConfig
    weights: WeightFiles
    stats: dict[str, Stat]
    """Size and identity of each file that a merge reads or copies, by its path."""
    notes: tuple[str, ...] = ()
    """Sentences for people: files that a merge leaves out."""

    @property
    def identified(self) -> bool:
        """Returns whether every file's content is known, and so the digest says what the base is."""
        return is_identified(self.stats)

    @property
    def headers(self) -> tuple[Header, ...]:
        """Headers of the weight files, in the files' order."""
        return self.weights.headers

    @property
    def index(self) -> Mapping[str, object] | None:
        """model.safetensors.index.json, if there is one."""
        return self.weights.index

    @property
    def tied_embeddings(self) -> bool:
        """As config.json says; where it does not, a base without an output layer of its own is tied.

        Without one, a language model that says so is tied whatever is said beside it.
        """
        if any(is_output_layer(name) for header in self.headers for name in header.tensors):
            return self.config.tied_embeddings is True
        (field,) = SPELLINGS["tied_embeddings"]
        return self.config.tied_embeddings is not False or text_fields(self.config.content).get(field) is True


@dataclass(frozen=True)
class StoredAdapter:
    store: Store
    digest: str
    config: AdapterConfig
    header: Header
    stats: dict[str, Stat]
    scale: float
    content: Mapping[str, object]
    """All of adapter_config.json."""
    notes: tuple[str, ...] = ()
    """Sentences for people: files that a merge does not read."""

    @property
    def identified(self) -> bool:
        """Returns whether the digest says what the adapter is."""
        return is_identified(self.stats)

    @property
    def file(self) -> str:
        return self.store.describe(ADAPTER_FILE)


def load_base(store: Store, source: Source, accepted: AcceptedWeights = AcceptedWeights.UNQUANTIZED) -> StoredBase:
    """Opens a base.

    Raises InvalidInput when it is missing, malformed, quantized beyond what is accepted, or not that of
    `source.digest`.
    """
    files, folders = list_files(store), folders_of(store)
    for wanted, alternatives in ((CONFIG_FILE, ()), (SINGLE_FILE, (INDEX_FILE,))):
        if wanted not in files and not any(name in files for name in alternatives):
            raise missing_base_file(_contents(store, files), wanted, _base_of_adapter(store, files))
    content = read_json(store, files, CONFIG_FILE)
    refuse_quantized_config(store, files, content, accepted)
    config = parse_base_config(store.describe(CONFIG_FILE), content)
    weights = read_weight_files(store, files)
    refuse_empty_base(store.uri, weights.tensors)
    beside = companions(store, files, folders)
    refuse_broken_files(store, beside, beside)
    stats = stats_of(store, [*weights.names, *beside])
    taken = pinned(store, source, stats, earlier_files(weights.names, stats))
    left_out = left_out_note(store.uri, files, folders, stats)
    notes = (*([left_out] if left_out else ()), *taken.notes)
    return StoredBase(store, taken.digest, config, weights, taken.stats, notes)


def load_adapter(store: Store, source: Source) -> StoredAdapter:
    """Opens an adapter.

    Raises InvalidInput when it is missing, malformed, of another kind or not that of `source.digest`.
    """
    files = list_files(store)
    if ADAPTER_CONFIG_FILE not in files:
        raise missing_adapter_file(_contents(store, files), ADAPTER_CONFIG_FILE)
    content = read_json(store, files, ADAPTER_CONFIG_FILE)
    config = parse_adapter_config(store.describe(ADAPTER_CONFIG_FILE), content)
    if ADAPTER_FILE not in files:
        raise missing_adapter_file(_contents(store, files), ADAPTER_FILE)
    (header,) = read_headers(store, {ADAPTER_FILE: files[ADAPTER_FILE]})
    refuse_empty_adapter(store.describe(ADAPTER_FILE), header.tensors.values())
    unread = files.keys() - {ADAPTER_CONFIG_FILE, ADAPTER_FILE}
    refuse_trained_weights(store.uri, unread)
    folders = folders_of(store)
    tokenizer = tokenizer_files(store, files, folders)
    stats = stats_of(store, [ADAPTER_CONFIG_FILE, ADAPTER_FILE, *tokenizer])
    taken = pinned(store, source, stats, {ADAPTER_CONFIG_FILE, ADAPTER_FILE})
    refuse_broken_files(store, tokenizer, tokenizer.keys() & taken.stats.keys())
    notes = (*unread_notes(store.uri, unread, folders - {TEMPLATE_FOLDER}), *taken.notes)
    return StoredAdapter(store, taken.digest, config, header, taken.stats, source.scale, content, notes)


def _contents(store: Store, files: Mapping[str, int]) -> Contents:
    """Returns what a folder and the folders in it hold, for the sentence that says why it is not what it should be."""
    below: list[str] = []
    for name in sorted(folders_of(store))[:MOST_FOLDERS]:
        with suppress(StepError):  # one that may not be read is not what is looked for
            inner = store.child(name).list() if isinstance(store, WritableStore) else store.list_folder(name)
            below += [path if path.startswith(f"{name}/") else f"{name}/{path}" for path in inner]
    return Contents(store.uri, files, below)


def _base_of_adapter(store: Store, files: Mapping[str, int]) -> str:
    """Returns the base that the folder's adapter_config.json names; empty where none is there or it cannot be read."""
    if ADAPTER_CONFIG_FILE not in files:
        return ""
    with suppress(InvalidInput):
        named = read_json(store, files, ADAPTER_CONFIG_FILE).get("base_model_name_or_path")
        return named if isinstance(named, str) else ""
    return ""


def refuse_quantized_config(
    store: Store,
    files: Mapping[str, int],
    content: Mapping[str, object],
    accepted: AcceptedWeights = AcceptedWeights.UNQUANTIZED,
) -> None:
    """Raises InvalidInput (UnsupportedBase) when config.json says that the weights are quantized otherwise."""
    if content.get("quantization_config"):
        refuse_quantized(store.describe(CONFIG_FILE), store.uri, content, _card(store, files), accepted)


def _card(store: Store, files: Mapping[str, int]) -> str:
    """Returns the front of the model card; empty where there is none."""
    size = min(files.get(CARD_FILE, 0), FIRST_READ_BYTES)
    return bytes(store.read(CARD_FILE, 0, size)).decode("utf-8", "replace") if size else ""
