"""Orders the changes that several adapters make to one tensor, and refuses those that contradict each other. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Form, LowRank, Replace, ReplaceRows, Update
from ftm_jobs.adapters.mismatch import adapter_mismatch, unsupported_adapter
from ftm_jobs.checkpoint.embeddings import OUTPUT_LAYERS
from ftm_jobs.checkpoint.output_layout import OutputTensor, TensorChange
from ftm_jobs.errors import InvalidInput, Reason


@dataclass(frozen=True)
class TensorUpdates:
    """Holds all updates of one tensor, by all adapters."""

    name: str
    files: Sequence[str]
    """The adapters' files, as messages name them."""
    updates: Sequence[Update]

    @property
    def changes(self) -> tuple[TensorChange, ...]:
        """The changes in PEFT's order: the last replacement, then what adapters add by layer, then single rows.

        The embedding comes before the output layer that shares its weight.
        """
        by_layer = sorted((update.change for update in self.updates), key=through_output_layer)
        replacements = [change for change in by_layer if isinstance(change, Replace)]
        rows = [change for change in by_layer if isinstance(change, ReplaceRows)]
        others = [change for change in by_layer if not isinstance(change, Replace | ReplaceRows)]
        return (*replacements[-1:], *others, *rows)

    @property
    def low_rank(self) -> list[LowRank]:
        return [change for change in self.changes if isinstance(change, LowRank)]

    @property
    def rows(self) -> list[ReplaceRows]:
        return [change for change in self.changes if isinstance(change, ReplaceRows)]


def through_output_layer(change: TensorChange) -> bool:
    """Returns whether the adapter makes the change to the output layer, which may share the embedding's weight."""
    name = change.a.name if isinstance(change, LowRank) else change.tensor.name if isinstance(change, Replace) else ""
    return any(f".{layer}." in name for layer in OUTPUT_LAYERS)


def check_conflicts(tensor: TensorUpdates) -> None:
    """Raises InvalidInput (AdapterMismatch, UnsupportedAdapter) naming the adapter's file and the tensor."""
    for check in (
        _replaced_twice,
        _resized,
        _adapted_twice,
        _changed_in_two_ways,
        _row_replaced_twice,
        _dora_on_tied_layers,
    ):
        check(tensor)


def _replaced_twice(tensor: TensorUpdates) -> None:
    replacing = {update.change.adapter for update in tensor.updates if isinstance(update.change, Replace)}
    if len(replacing) > 1:
        first, second = sorted(replacing)[:2]
        raise unsupported_adapter(
            f'{tensor.files[second]} replaces "{tensor.name}", which {tensor.files[first]} replaces too: '
            "merge only one of the two"
        )


def _resized(tensor: TensorUpdates) -> None:
    """Refuses what was trained on another size of a weight than that which an adapter gives it."""
    replaced = next((update.change for update in tensor.updates if isinstance(update.change, Replace)), None)
    for change in tensor.low_rank:
        shape = (change.b.shape[0], change.a.shape[1])
        shape = shape if change.form is Form.LINEAR else shape[::-1]
        if replaced and change.expert is None and shape != replaced.tensor.shape:
            raise adapter_mismatch(
                f'{tensor.files[change.adapter]} adapts "{tensor.name}" with {shape[0]} rows, but '
                f"{tensor.files[replaced.adapter]} gives it {replaced.tensor.shape[0]}: merge only one of the two"
            )


def _adapted_twice(tensor: TensorUpdates) -> None:
    """Refuses an adapter that adapts a layer by two pairs of matrices."""
    first_of_layer: dict[tuple[int, bool], LowRank] = {}
    for change in tensor.low_rank:
        other = first_of_layer.setdefault((change.adapter, through_output_layer(change)), change)
        if other is not change:
            raise adapter_mismatch(
                f'{tensor.files[change.adapter]} tensors "{other.a.name}" and "{change.a.name}" both adapt '
                f'"{tensor.name}": save the adapter again'
            )


def _changed_in_two_ways(tensor: TensorUpdates) -> None:
    """Refuses single rows, a module of its own and low-rank updates beside each other."""
    low_rank, rows = tensor.low_rank, tensor.rows
    whole = [update for update in tensor.updates if update.in_module]
    if (low_rank and (rows or whole)) or (rows and whole):
        verb = "trains single rows of" if rows else "replaces"
        adapter = rows[0].adapter if rows else whole[0].change.adapter
        raise unsupported_adapter(
            f'{tensor.files[adapter]} {verb} "{tensor.name}", which is adapted in another way too: train it in one way'
        )


def _row_replaced_twice(tensor: TensorUpdates) -> None:
    owners: dict[int, int] = {}
    for change in tensor.rows:
        for index in change.indices:
            owner = owners.setdefault(index, change.adapter)
            if owner != change.adapter:
                raise unsupported_adapter(
                    f'{tensor.files[change.adapter]} replaces row {index} of "{tensor.name}", which '
                    f"{tensor.files[owner]} replaces too: merge only one of the two"
                )


def _dora_on_tied_layers(tensor: TensorUpdates) -> None:
    low_rank = tensor.low_rank
    if len({change.module for change in low_rank}) > 1 and any(change.magnitude for change in low_rank):
        raise unsupported_adapter(
            f'{tensor.files[low_rank[0].adapter]} adapts "{tensor.name}" as embedding and as output layer, with DoRA: '
            "train the adapter without one of the two"
        )


def check_differing_ties(base: BaseTensors, files: Sequence[str], updates: Mapping[str, Sequence[Update]]) -> None:
    """Raises InvalidInput (UnsupportedBase) where PEFT ties two tensors that transformers does not.

    It does so with trained rows, and after a resize: one of the two is then lost.
    """
    for name in (base.embedding, base.output_layer):
        for update in updates.get(name or "", ()):
            change = update.change
            resized = isinstance(change, Replace) and change.tensor.shape != base.by_name[update.weight].tensor.shape
            if resized or isinstance(change, ReplaceRows):
                raise InvalidInput(
                    Reason.UNSUPPORTED_BASE,
                    f'{base.uri} holds different tensors "{base.embedding}" and "{base.output_layer}" that its '
                    f"config.json ties, so what {files[change.adapter]} means for both cannot be told: set "
                    "tie_word_embeddings to false there, or take the second tensor out of the base",
                )


def check_token_rows(files: Sequence[str], tensor: OutputTensor) -> None:
    """Raises InvalidInput (AdapterMismatch) when an adapter replaces a row that the merged tensor does not have."""
    for change in tensor.changes:
        if isinstance(change, ReplaceRows) and max(change.indices, default=0) >= tensor.shape[0]:
            raise adapter_mismatch(
                f'{files[change.adapter]} replaces row {max(change.indices)} of "{tensor.name}", which has '
                f"{tensor.shape[0]}: name the base with its vocabulary grown as it was for the training, or save the "
                "adapter with save_embedding_layers=True"
            )
