"""Plans what becomes of a base's tensors under all adapters at once: ties and resized vocabularies included.

PEFT's order is kept: what replaces a weight is loaded first, then each adapter in turn adds to it; what an adapter
does to a tied weight, through the embedding or the output layer, is done to both, unless one of the two was trained
as a module of its own (modules_to_save), which unties them. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import NF4_BLOCK, Form, LowRank, Replace, RoundTrip, Update
from ftm_jobs.adapters.mismatch import adapter_mismatch, unsupported_adapter
from ftm_jobs.checkpoint.embeddings import is_output_layer
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.output_layout import (
    Origin,
    OutputLayout,
    OutputTensor,
    TensorChange,
    base_layout,
    in_dtype,
    resharded,
)
from ftm_jobs.contract.keys import ClassifierTask, OutputDtype, QuantizedBase
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.classifier import classifier
from ftm_jobs.merge.conflicts import (
    TensorUpdates,
    check_conflicts,
    check_differing_ties,
    check_token_rows,
    through_output_layer,
)
from ftm_jobs.merge.documents import ConfigChanges, Documents, edited_documents


@dataclass(frozen=True)
class MergeChoices:
    """Holds what a merge is asked for beside its sources; all of it is part of the artifact's key."""

    quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION
    max_shard_size: int | None = None
    """Bytes of the output's largest weight file; None where the files are the base's."""
    task: ClassifierTask | None = None
    """The classifier that they become; None: a model of the base's class."""
    dtype: OutputDtype | None = None
    """The dtype of all floating tensors; None: the base's of each."""


AS_THE_BASE = MergeChoices()


def plan(
    base: BaseTensors,
    documents: Documents,
    adapters: Sequence[tuple[str, Sequence[Update]]],
    choices: MergeChoices = AS_THE_BASE,
) -> OutputLayout:
    """Returns the files of the merged model. `adapters` are (file, updates) in order; messages name the file.

    With a `task` it is a classifier, which has a head of an adapter in place of the output layer.

    Raises InvalidInput (AdapterMismatch, UnsupportedAdapter) where adapters contradict each other or the base.
    """
    files = [file for file, _ in adapters]
    by_weight: dict[str, list[Update]] = {}
    for _, updates in adapters:
        for update in updates:
            by_weight.setdefault(update.weight, []).append(update)
    made = classifier(base, documents.config, choices.task, files, by_weight) if choices.task else None
    by_weight, untied = (by_weight, False) if made else _shared(base, files, by_weight)
    nf4_base = choices.quantized_base is QuantizedBase.NF4_ROUND_TRIP
    changed = {
        name: _tensor(base, TensorUpdates(name, files, updates), nf4_base) for name, updates in by_weight.items()
    }
    vocabulary = _new_vocabulary(base, files, changed, None if made else base.output_layer)
    for tensor in changed.values():
        check_token_rows(files, tensor)
    layout = base_layout(base.headers, changed, made.dropped if made else frozenset())
    index = documents.index
    if choices.dtype is not None:
        layout = in_dtype(layout, choices.dtype)
    if choices.max_shard_size is not None:
        layout = resharded(layout, choices.max_shard_size)
        index = (index or {}) if len(layout) > 1 else None
    dropped = frozenset({INDEX_FILE} if index is None else ())
    changes = ConfigChanges(untied, vocabulary, made, choices.dtype)
    edited = edited_documents(Documents(documents.config, index), layout, changes)
    return OutputLayout(tuple(layout), edited, dropped)


def _shared(
    base: BaseTensors, files: Sequence[str], by_weight: Mapping[str, list[Update]]
) -> tuple[dict[str, list[Update]], bool]:
    """Returns the updates, those of a tied embedding and output layer done to both, and whether they untie them."""
    wanted, embedding = dict(by_weight), base.embedding
    if base.ties_differ:
        check_differing_ties(base, files, by_weight)
        return wanted, not {embedding, base.output_layer}.isdisjoint(wanted)
    if embedding is None or not base.tied_embeddings:
        return wanted, False
    head = base.output_layer
    new_head = base.new_output_layer("lm_head.weight")
    of_head = [update for name in list(wanted) if is_output_layer(name) for update in wanted.pop(name)]
    of_embedding = wanted.pop(embedding, [])
    for name, updates in ((embedding, of_embedding), (head or new_head, of_head)):
        check_conflicts(TensorUpdates(name, files, updates))
    shared = [update for update in (*of_embedding, *of_head) if not update.in_module]
    own_embedding = [update for update in of_embedding if update.in_module]
    own_head = [update for update in of_head if update.in_module]
    if own_embedding or shared:
        wanted[embedding] = own_embedding or shared
    if own_head or own_embedding or (shared and head):
        wanted[head or new_head] = own_head or shared
    return wanted, bool(own_head or own_embedding)


def _tensor(base: BaseTensors, updates: TensorUpdates, nf4_base: bool) -> OutputTensor:
    name, changes = updates.name, updates.changes
    target = base.by_name.get(name) or base.by_name[base.embedding or next(iter(base.by_name))]
    check_conflicts(updates)
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
        Origin(target.file_name, target.tensor),
        changes,
        replaced is not None,
    )


def _was_quantized(change: TensorChange) -> bool:
    """Returns whether QLoRA quantized the weight: a Linear layer's, but no fused experts' and no output layer's."""
    linear = isinstance(change, LowRank) and change.form is Form.LINEAR and not change.rounded
    return linear and not through_output_layer(change)


def _new_vocabulary(
    base: BaseTensors, files: Sequence[str], changed: Mapping[str, OutputTensor], output_layer: str | None
) -> int | None:
    """Returns the new size of the vocabulary, by which embedding and output layer must grow alike; None: it stays.

    It is the rows of the output layer, where there is one: Llama 3.2 Vision's embedding has 8 more.
    """
    head = output_layer or next(filter(is_output_layer, changed), None)
    sizes = {name: _rows(base, name, changed.get(name)) for name in (head, base.embedding) if name is not None}
    resized = [name for name, (before, after) in sizes.items() if after != before]
    if len({after - before for before, after in sizes.values()}) > 1:
        name = resized[0]
        other = next(other for other in sizes if other != name)
        change = changed[name].changes[0]
        of_head, of_embedding = (before for before, _ in sizes.values())
        if of_head != of_embedding:
            raise unsupported_adapter(
                f"{files[change.adapter]} resizes an embedding of {of_embedding} rows and an output layer of "
                f"{of_head} by different numbers of rows, which transformers cannot load again: train the adapter "
                "without resizing them"
            )
        raise adapter_mismatch(
            f'{files[change.adapter]} gives "{name}" {sizes[name][1]} rows, but "{other}" has {sizes[other][1]}: '
            + _both_resized(changed[name])
        )
    return sizes[resized[0]][1] if resized else None


def _both_resized(tensor: OutputTensor) -> str:
    """Returns how an adapter comes to hold both, where it holds `tensor` alone with its new rows."""
    if any(isinstance(change, LowRank) for change in tensor.changes):
        return "PEFT saves only those named in target_modules: train the adapter with both of them named there"
    return "save the adapter with save_embedding_layers=True, so that it holds both"


def _rows(base: BaseTensors, name: str, changed: OutputTensor | None) -> tuple[int, int]:
    """Returns a tensor's rows before and after the merge; an output layer that is new begins as the embedding."""
    before = base.by_name.get(name) or base.by_name[base.embedding or ""]
    rows = before.tensor.shape[0]
    return rows, changed.shape[0] if changed else rows
