"""What becomes of a base's tensors under all adapters at once: ties, resized vocabularies and conflicts included.

PEFT's order is kept: what replaces a weight is loaded first, then each adapter in turn adds to it; what an adapter
does to a tied weight, through the embedding or the output layer, is done to both, unless one of the two was trained
as a module of its own (modules_to_save), which unties them. Pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftm_jobs.adapters.changes import NF4_BLOCK, Form, LowRank, Replace, ReplaceRows, RoundTrip
from ftm_jobs.adapters.match import OUTPUT_LAYERS, BaseTensors, Update, new_output_layer
from ftm_jobs.adapters.mismatch import adapter_mismatch, unsupported_adapter
from ftm_jobs.checkpoint.configs import CONFIG_FILE
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.output_layout import (
    Origin,
    OutputFile,
    OutputLayout,
    OutputTensor,
    TensorChange,
    base_layout,
    resharded,
)
from ftm_jobs.contract.config import SPELLINGS, text_object
from ftm_jobs.errors import InvalidInput, Reason

_TIE = "tie_word_embeddings"


@dataclass(frozen=True)
class Documents:
    """The base's files that say how its tensors are laid out."""

    config: Mapping[str, Any]
    index: Mapping[str, Any] | None


def plan(
    base: BaseTensors,
    documents: Documents,
    adapters: Sequence[tuple[str, Sequence[Update]]],
    *,
    nf4_base: bool = False,
    max_shard_size: int | None = None,
) -> OutputLayout:
    """`adapters` are how messages name each one's file, and its updates, in order.

    Raises InvalidInput (AdapterMismatch, UnsupportedAdapter) where adapters contradict each other or the base.
    """
    files = [file for file, _ in adapters]
    updates = [update for _, found in adapters for update in found]
    wanted: dict[str, list[Update]] = {}
    for update in updates:
        wanted.setdefault(update.weight, []).append(update)
    untied = _share(base, wanted) if base.tied_embeddings else False
    changed = {name: _tensor(base, files, name, found, nf4_base) for name, found in wanted.items()}
    resized = _resized(base, files, changed)
    for tensor in changed.values():
        _check_token_rows(files, tensor)
    layout = base_layout(base.headers, changed)
    index = documents.index
    if max_shard_size is not None:
        layout = resharded(layout, max_shard_size)
        index = (index or {}) if len(layout) > 1 else None
    dropped = frozenset({INDEX_FILE} if index is None else ())
    return OutputLayout(tuple(layout), _documents(Documents(documents.config, index), layout, untied, resized), dropped)


def _share(base: BaseTensors, wanted: dict[str, list[Update]]) -> bool:
    """Give the tied embedding and output layer what is done to either; whether they are tied no longer."""
    embedding = base.embedding
    if embedding is None:
        return False
    head = next((name for name in base.targets if _is_head(name)), None)
    new_head = new_output_layer(base, "lm_head.weight")
    of_head = [update for name in list(wanted) if _is_head(name) for update in wanted.pop(name)]
    of_embedding = wanted.pop(embedding, [])
    shared = [update for update in (*of_embedding, *of_head) if not update.in_module]
    own_embedding = [update for update in of_embedding if update.in_module]
    own_head = [update for update in of_head if update.in_module]
    if own_embedding or shared:
        wanted[embedding] = own_embedding or shared
    if own_head or own_embedding or (shared and head):
        wanted[head or new_head] = own_head or shared
    return bool(own_head or own_embedding)


def _tensor(base: BaseTensors, files: Sequence[str], name: str, updates: list[Update], nf4_base: bool) -> OutputTensor:
    target = base.targets.get(name) or base.targets[base.embedding or ""]
    changes = _ordered([update.change for update in updates])
    _check_conflicts(files, name, updates, changes)
    replaced = next((change.tensor for change in changes if isinstance(change, Replace)), None)
    if nf4_base and replaced is None and any(_was_quantized(change) for change in changes):
        if target.tensor.shape[-1] % NF4_BLOCK:
            raise InvalidInput(
                Reason.UNSUPPORTED_BASE,
                f'{target.file} tensor "{name}" has {target.tensor.shape[-1]} columns, not a multiple of {NF4_BLOCK}, '
                "so NF4RoundTrip cannot be computed in rows: merge with --quantized-base FullPrecision",
            )
        changes = (RoundTrip(-1), *changes)
    return OutputTensor(
        name,
        target.tensor.dtype,
        replaced.shape if replaced else target.tensor.shape,
        Origin(target.name, target.tensor),
        changes,
        replaced is not None,
    )


def _was_quantized(change: TensorChange) -> bool:
    """QLoRA quantizes Linear layers, but neither experts in one tensor nor the output layer."""
    return (
        isinstance(change, LowRank) and change.form is Form.LINEAR and not change.rounded and not _through_head(change)
    )


def _ordered(changes: Sequence[TensorChange]) -> tuple[TensorChange, ...]:
    """As PEFT does: the last replacement that is loaded, then what each layer's adapters add, then single rows.

    Of a tied weight's two layers, the embedding comes first.
    """
    by_layer = sorted(changes, key=_through_head)
    replacements = [change for change in by_layer if isinstance(change, Replace)]
    rows = [change for change in by_layer if isinstance(change, ReplaceRows)]
    others = [change for change in by_layer if not isinstance(change, Replace | ReplaceRows)]
    return (*replacements[-1:], *others, *rows)


def _through_head(change: TensorChange) -> bool:
    name = change.a.name if isinstance(change, LowRank) else change.tensor.name if isinstance(change, Replace) else ""
    return any(f".{layer}." in name for layer in OUTPUT_LAYERS)


def _check_conflicts(
    files: Sequence[str], name: str, updates: Sequence[Update], changes: Sequence[TensorChange]
) -> None:
    replacing = {update.change.adapter for update in updates if isinstance(update.change, Replace)}
    if len(replacing) > 1:
        first, second = sorted(replacing)[:2]
        raise unsupported_adapter(
            f'{files[second]} replaces "{name}", which {files[first]} replaces too: merge only one of the two'
        )
    low_rank = [change for change in changes if isinstance(change, LowRank)]
    seen: dict[tuple[int, bool], LowRank] = {}
    for change in low_rank:
        other = seen.setdefault((change.adapter, _through_head(change)), change)
        if other is not change:
            raise adapter_mismatch(
                f'{files[change.adapter]} tensors "{other.a.name}" and "{change.a.name}" both adapt "{name}": '
                "save the adapter again"
            )
    rows = [change for change in changes if isinstance(change, ReplaceRows)]
    whole = [update for update in updates if update.in_module]
    if (low_rank and (rows or whole)) or (rows and whole):
        what = "trains single rows of" if rows else "replaces"
        place = rows[0].adapter if rows else whole[0].change.adapter
        raise unsupported_adapter(
            f'{files[place]} {what} "{name}", which is adapted in another way too: train it in one way'
        )
    taken: dict[int, int] = {}
    for chosen in rows:
        for index in chosen.indices:
            owner = taken.setdefault(index, chosen.adapter)
            if owner != chosen.adapter:
                raise unsupported_adapter(
                    f'{files[chosen.adapter]} replaces row {index} of "{name}", which {files[owner]} replaces too: '
                    "merge only one of the two"
                )
    if len({change.module for change in low_rank}) > 1 and any(change.magnitude for change in low_rank):
        raise unsupported_adapter(
            f'{files[low_rank[0].adapter]} adapts "{name}" as embedding and as output layer, with DoRA: '
            "train the adapter without one of the two"
        )


def _resized(base: BaseTensors, files: Sequence[str], changed: Mapping[str, OutputTensor]) -> int | None:
    """The new size of the vocabulary; None when it stays."""
    embedding = base.embedding
    head = next((name for name in [*base.targets, *changed] if _is_head(name)), None)
    rows = {
        name: changed[name].shape[0] if name in changed else base.targets[name].tensor.shape[0]
        for name in (embedding, head)
        if name is not None
    }
    for name, found in rows.items():
        if len(set(rows.values())) > 1 and name in changed:
            other = next(other for other in rows if rows[other] != found)
            raise adapter_mismatch(
                f'{files[changed[name].changes[0].adapter]} gives "{name}" {found} rows, but "{other}" has '
                f"{rows[other]}: save the adapter with save_embedding_layers=True, so that it holds both"
            )
    if embedding is None or embedding not in changed:
        return None
    before = base.targets[embedding].tensor.shape[0]
    if rows[embedding] == before:
        return None
    return rows[embedding]


def _check_token_rows(files: Sequence[str], tensor: OutputTensor) -> None:
    for change in tensor.changes:
        if isinstance(change, ReplaceRows) and max(change.indices, default=0) >= tensor.shape[0]:
            raise adapter_mismatch(
                f'{files[change.adapter]} replaces row {max(change.indices)} of "{tensor.name}", which has '
                f"{tensor.shape[0]}: use the base that the adapter was trained on"
            )


def _documents(
    documents: Documents, layout: Sequence[OutputFile], untied: bool, resized: int | None
) -> dict[str, bytes]:
    edited: dict[str, bytes] = {}
    if untied or resized is not None:
        edited[CONFIG_FILE] = _encoded(_config(documents.config, untied, resized))
    if documents.index is not None and any(file.base_file is None for file in layout):
        edited[INDEX_FILE] = _encoded(_index(documents.index, layout))
    return edited


def _config(config: Mapping[str, Any], untied: bool, resized: int | None) -> dict[str, Any]:
    """With only those fields changed that say what has changed, where they are said."""
    found = dict(config)
    inner = text_object(found)
    places = [found]
    if inner is not None:
        found[inner] = dict(found[inner])
        places.append(found[inner])
    if untied:
        found[_TIE] = False
        for place in places[1:]:
            if _TIE in place:
                place[_TIE] = False
    if resized is not None:
        for place in places:
            place |= {name: resized for name in SPELLINGS["vocabulary_size"] if name in place}
    return found


def _index(index: Mapping[str, Any], layout: Sequence[OutputFile]) -> dict[str, Any]:
    metadata = dict(index["metadata"]) if isinstance(index.get("metadata"), dict) else {}
    tensors = [(file.name, tensor) for file in layout for tensor in file.tensors]
    metadata["total_size"] = sum(tensor.size for _, tensor in tensors)
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(tensor.elements for _, tensor in tensors)
    return dict(index) | {"metadata": metadata, "weight_map": {tensor.name: file for file, tensor in tensors}}


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _is_head(name: str) -> bool:
    module, _, part = name.rpartition(".")
    return part == "weight" and module.rpartition(".")[2] in OUTPUT_LAYERS
