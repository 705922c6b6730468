"""Reads what changes to a base's weights need of the adapters, and applies them to rows."""

from collections.abc import Sequence
from functools import lru_cache

import torch

from ftm_jobs.adapters.changes import AddBias, LowRank, Replace, ReplaceRows, RoundTrip
from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.output_layout import OutputTensor, TensorChange
from ftm_jobs.checkpoint.sources import ADAPTER_FILE
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.arithmetic import rows
from ftm_jobs.merge.arithmetic.factors import Factors
from ftm_jobs.merge.blocks import Block, Piece
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.stores import Store

CACHED_WEIGHTS = 4
"""Weights whose A and B are kept: one larger than a block needs them again for its next block."""

PreparedBlock = tuple[tuple[rows.Prepared, ...], ...]
"""The changes to each piece of a block, with the tensors that they need."""


class RowChanges:
    """Reads what a change needs when its weight is reached, so that memory does not grow with the adapters."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        kept = CACHED_WEIGHTS * len(inputs.adapters)
        self._kept = lru_cache(kept)(self._read_change)
        self._factor = lru_cache(2 * kept)(self._read_fp32)

    def of(self, tensor: OutputTensor) -> tuple[rows.Prepared, ...]:
        """Returns the changes to all rows of a tensor."""
        whole = Piece(tensor, 0, tensor.rows, 0)
        return tuple(self._read_rows(change, whole) or self._kept(change) for change in tensor.changes)

    def prepare(self, block: Block) -> PreparedBlock:
        return tuple(
            tuple(self._read_rows(change, piece) or self._kept(change) for change in piece.tensor.changes)
            for piece in block.pieces
        )

    def apply(self, block: Block, data: memoryview, prepared: PreparedBlock) -> memoryview:
        """Changes the block in place, and returns what is written of it: other bytes where a tensor is cast."""
        parts: list[memoryview] = []
        copied = 0
        for piece, changes in zip(block.pieces, prepared, strict=True):
            end = piece.offset + piece.rows * (piece.tensor.read_size // piece.tensor.rows)
            cast = self._apply(piece, data[piece.offset : end], changes)
            if cast is not None:
                parts += [data[copied : piece.offset], cast]
                copied = end
        return memoryview(b"".join([*parts, data[copied:]])) if parts else data

    def _apply(self, piece: Piece, data: memoryview, changes: Sequence[rows.Prepared]) -> memoryview | None:
        """Changes rows in place; those of a tensor that is cast are returned instead."""
        try:
            if piece.tensor.cast_from is not None:
                return rows.changed_and_cast(piece.tensor, data, piece.first_row, changes)
            rows.apply_changes(piece.tensor, data, piece.first_row, changes)
        except rows.NotFinite as error:
            raise self._not_finite_source(piece.tensor) or error from error
        return None

    def _not_finite_source(self, tensor: OutputTensor) -> InvalidInput | None:
        """Returns an error that names what held NaN or infinity before the merge; None: the sum is too large."""
        for change in tensor.changes:
            for part in change.tensors:
                adapter = self._inputs.adapters[change.adapter]
                if not _is_finite(adapter.store, ADAPTER_FILE, part):
                    return InvalidInput(
                        Reason.UNSUPPORTED_ADAPTER,
                        f'{adapter.file} tensor "{part.name}" holds NaN or infinity: '
                        "use an earlier checkpoint of this adapter, or train it again",
                    )
        origin, base = tensor.origin, self._inputs.base
        if origin and not tensor.replaced and not _is_finite(base.store, origin.file, origin.tensor):
            return InvalidInput(
                Reason.UNSUPPORTED_BASE,
                f'{base.store.describe(origin.file)} tensor "{origin.tensor.name}" holds NaN or infinity: '
                "download the base again, or use another",
            )
        return None

    def _read_rows(self, change: TensorChange, piece: Piece) -> rows.Prepared | None:
        """Reads only the rows that a piece needs of what replaces a whole weight. Returns None for other changes."""
        if not isinstance(change, Replace):
            return None
        row_bytes = change.tensor.size // piece.tensor.rows
        store = self._inputs.adapters[change.adapter].store
        data = store.read(ADAPTER_FILE, change.tensor.offset + piece.first_row * row_bytes, piece.rows * row_bytes)
        return rows.Rows(rows.matrix(change.tensor, data, (piece.rows, piece.tensor.columns)), piece.first_row)

    def _read_change(self, change: TensorChange) -> rows.Prepared:
        match change:
            case LowRank():
                return Factors(
                    self._factor(change.adapter, change.a),
                    self._factor(change.adapter, change.b),
                    change.scaling,
                    change.form,
                    change.rounded,
                    self._factor(change.adapter, change.magnitude) if change.magnitude else None,
                    change.expert,
                )
            case AddBias():
                return rows.Bias(self._factor(change.adapter, change.tensor), change.scaling)
            case ReplaceRows():
                return rows.ChosenRows(self._factor(change.adapter, change.tensor), change.indices)
            case RoundTrip():
                return rows.Nf4RoundTrip()
        raise AssertionError(change)

    def _read_fp32(self, adapter: int, tensor: Tensor) -> torch.Tensor:
        data = self._inputs.adapters[adapter].store.read(ADAPTER_FILE, tensor.offset, tensor.size)
        return rows.matrix(tensor, data).float()


def _is_finite(store: Store, file: str, tensor: Tensor) -> bool:
    for start in range(0, tensor.size, store.block_bytes):
        size = min(store.block_bytes, tensor.size - start)
        if not rows.is_finite(tensor, store.read(file, tensor.offset + start, size)):
            return False
    return True
