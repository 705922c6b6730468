"""Applies changes to rows of a weight, in chunks that fit a core's cache, and refuses results that are not finite."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.arithmetic import nf4
from ftm_jobs.merge.arithmetic.factors import Factors
from ftm_jobs.merge.arithmetic.peft_layer import PeftLayer
from ftm_jobs.merge.blocks import chunk_rows

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SUMMED_IN = {torch.float32: torch.float32, torch.float16: torch.float32, torch.bfloat16: torch.bfloat16}
"""Sums of bf16 are accumulated in fp32, and have its range when they are rounded."""
_SMALL_SQUARES = {torch.float32: 1e30, torch.float16: 1e9, torch.bfloat16: 1e30}
"""Less than the square of half the largest number of each, and than the largest of fp32."""


@dataclass(frozen=True)
class Bias:
    """Holds a row that is added to a bias."""

    values: torch.Tensor
    scaling: float


@dataclass(frozen=True)
class Rows:
    """Holds rows of an adapter's tensor that replace the weight's, from `first_row` on."""

    values: torch.Tensor
    first_row: int


@dataclass(frozen=True)
class ChosenRows:
    """Holds an adapter's rows that replace the weight's at `indices`."""

    values: torch.Tensor
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Nf4RoundTrip:
    """Rounds the weight to 4-bit NormalFloat and back."""


class NotFinite(InvalidInput):
    """Rows of a tensor would hold NaN or infinity."""


Prepared = Factors | Bias | Rows | ChosenRows | Nf4RoundTrip


def compute_on_one_thread() -> None:
    """Makes torch compute each operation on the thread that asks for it.

    A merge works on several blocks at once, each on a thread of its own. It calls this before any of them computes.
    """
    torch.set_num_threads(1)


def matrix(tensor: Tensor, data: bytearray, shape: Sequence[int] | None = None) -> torch.Tensor:
    """Returns the matrix in the bytes of a tensor, or of rows of one."""
    return torch.frombuffer(data, dtype=_DTYPES[tensor.dtype]).view(tuple(shape or tensor.shape))


def apply_changes(tensor: OutputTensor, data: memoryview, first_row: int, prepared: Sequence[Prepared]) -> None:
    """Applies each change in turn, in place, to the rows of `tensor` from `first_row` that `data` holds.

    Raises NotFinite naming the tensor when a result is not finite.
    """
    dtype = _DTYPES[tensor.dtype]
    elements = torch.frombuffer(data, dtype=dtype)
    aligned = elements.data_ptr() % dtype.itemsize == 0
    rows = (elements if aligned else elements.clone()).view(-1, tensor.columns)
    step = chunk_rows(tensor)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        summed = _apply_to_chunk(tensor, chunk, first_row + start, prepared)
        _check_finite(tensor, chunk, summed)
    if not aligned:
        elements.copy_(rows.view(-1))


def changed_and_cast(
    tensor: OutputTensor, data: memoryview, first_row: int, prepared: Sequence[Prepared]
) -> memoryview:
    """Returns the bytes of rows that are written in another dtype than they are read in: changed in fp32, rounded once.

    Raises NotFinite as `apply_changes`, and InvalidInput naming the tensor where a number is too large for the dtype.
    """
    assert tensor.cast_from
    elements = torch.frombuffer(data, dtype=_DTYPES[tensor.cast_from])
    aligned = elements.data_ptr() % elements.itemsize == 0
    rows = (elements if aligned else elements.clone()).view(-1, tensor.columns)
    written = torch.empty(rows.shape, dtype=_DTYPES[tensor.dtype])
    step = chunk_rows(tensor)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        if prepared:
            chunk = chunk.float()
            summed = _apply_to_chunk(tensor, chunk, first_row + start, prepared)
            _check_finite(tensor, chunk, summed)
        written[start : start + step].copy_(chunk)
        _check_range(tensor, chunk, written[start : start + step])
    return written.view(-1).view(torch.uint8).numpy().data


def _check_range(tensor: OutputTensor, chunk: torch.Tensor, written: torch.Tensor) -> None:
    if math.isfinite(written.sum(dtype=torch.float32).item()):
        return
    lost = chunk[torch.isinf(written) & torch.isfinite(chunk)]
    if len(lost):
        dtype = str(written.dtype).removeprefix("torch.")
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f'tensor "{tensor.name}" holds {lost[0].item():g}, which is beyond {torch.finfo(written.dtype).max:g}, the '
            f"largest number in {dtype}: write the merged model in another dtype",
        )


def is_finite(tensor: Tensor, data: bytearray) -> bool:
    """Returns whether the bytes of a tensor, or of a part of one, hold neither NaN nor infinity."""
    return bool(torch.isfinite(torch.frombuffer(data, dtype=_DTYPES[tensor.dtype])).all())


def _apply_to_chunk(
    tensor: OutputTensor, chunk: torch.Tensor, first: int, prepared: Sequence[Prepared]
) -> torch.Tensor | None:
    """Changes a chunk of rows. Returns what they were rounded from, in fp32, where the last change made that."""
    layer = PeftLayer(tensor, chunk, first)
    summed = None
    for change in prepared:
        summed = None
        match change:
            case Factors():
                summed = layer.merge(change)
            case Bias():
                chunk += change.values * change.scaling
            case Rows():
                start = first - change.first_row
                chunk.copy_(change.values[start : start + len(chunk)])
            case ChosenRows():
                for place, index in enumerate(change.indices):
                    if first <= index < first + len(chunk):
                        chunk[index - first].copy_(change.values[place])
            case Nf4RoundTrip():
                nf4.round_trip(chunk)
    return summed


def _check_finite(tensor: OutputTensor, chunk: torch.Tensor, summed: torch.Tensor | None) -> None:
    """Checks that a chunk is finite. `summed` is what it was rounded from, in fp32, where that is known.

    Numbers whose squares add up to little are all small, and a sum is finite only if all it adds are. What neither
    shows may still be finite: each element is looked at then.
    """
    if summed is not None and summed.is_contiguous():
        finite = torch.dot(summed.view(-1), summed.view(-1)).item() < _SMALL_SQUARES[chunk.dtype]
    else:
        finite = math.isfinite(chunk.sum(dtype=_SUMMED_IN[chunk.dtype]).item())
    if finite or torch.isfinite(chunk).all():
        return
    raise NotFinite(
        Reason.UNSUPPORTED_ADAPTER,
        f'tensor "{tensor.name}" would hold NaN or infinity after the merge in {tensor.dtype}: '
        "train the adapter again, lower its scale, or use a base stored with a wider range (BF16 or F32)",
    )
