"""The arithmetic of every change, exactly PEFT's. The only module that imports torch.

PEFT (peft/tuners/lora/layer.py and variants.py) holds what an adapter learned in fp32 and computes in fp32, so that
each adapter rounds once to the weight's dtype; its Embedding and ParamWrapper round their product first. DoRA's norm
is of the weight without the adapters that were merged before, which PEFT therefore takes out and puts in again, each
time rounding: the same is done here, row by row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from ftm_jobs.adapters.changes import Expert, Form
from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge import nf4
from ftm_jobs.merge.blocks import chunk_rows

VERSION = torch.__version__.partition("+")[0]
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SUMMED_IN = {torch.float32: torch.float32, torch.float16: torch.float32, torch.bfloat16: torch.bfloat16}
"""Sums of bf16 are accumulated in fp32, and have its range when they are rounded."""
_SMALL_SQUARES = {torch.float32: 1e30, torch.float16: 1e9, torch.bfloat16: 1e30}
"""Less than the square of half the largest number of each, and than the largest of fp32."""
torch.set_num_threads(1)


@dataclass(frozen=True)
class Factors:
    """A low-rank update of one stored weight."""

    a: torch.Tensor
    """(r, in), fp32; of all experts (experts·r, in)."""
    b: torch.Tensor
    """(out, r), fp32; of all experts (out, r·experts)."""
    scaling: float
    form: Form = Form.LINEAR
    rounded: bool = False
    magnitude: torch.Tensor | None = None
    """(out,), fp32."""
    expert: Expert | None = None

    def delta(self, first: int, count: int, rows: int) -> torch.Tensor:
        """Rows `first` to `first + count` of what is added to a stored weight of `rows` rows, in fp32."""
        if self.expert is None:
            return self._product(self.a, self.b, first, count)
        if self.expert.index is not None:
            return self._product(*self._of_expert(self.expert.index), self.expert.first_output + first, count)
        per_expert = rows // self.expert.count
        parts = []
        while count:
            index, start = divmod(first, per_expert)
            taken = min(count, per_expert - start)
            parts.append(self._product(*self._of_expert(index), start, taken))
            first, count = first + taken, count - taken
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def added_to(self, stored: torch.Tensor, first: int, rows: int) -> torch.Tensor:
        """What `stored`, the rows from `first` on, becomes with the update, in fp32.

        A power of two scales without rounding, so the matrix kernel may then scale and add while it multiplies.
        """
        count, columns = stored.shape
        at_once = self.expert is None and self.form is Form.LINEAR and math.frexp(self.scaling)[0] == 0.5
        if at_once and _adds_as_it_multiplies(count, len(self.a), columns):
            summed = stored.to(torch.float32, copy=True)
            return summed.addmm_(self.b[first : first + count], self.a, alpha=self.scaling)
        return self.delta(first, count, rows).add_(stored)

    def _product(self, a: torch.Tensor, b: torch.Tensor, first: int, count: int) -> torch.Tensor:
        if self.form is Form.LINEAR:
            return (b[first : first + count] @ a).mul_(self.scaling)
        return (b @ a[:, first : first + count]).T.mul_(self.scaling)

    def _of_expert(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.expert
        count = self.expert.count
        a = self.a.reshape(count, -1, self.a.shape[-1])[index]
        b = self.b.reshape(self.b.shape[0], -1, count)[:, :, index]
        return a, b


@dataclass(frozen=True)
class Bias:
    """What is added to a bias, as a row."""

    values: torch.Tensor
    scaling: float


@dataclass(frozen=True)
class Rows:
    """Rows of an adapter's tensor that replace the weight's, from `first_row` on."""

    values: torch.Tensor
    first_row: int


@dataclass(frozen=True)
class ChosenRows:
    """An adapter's rows that replace the weight's at `indices`."""

    values: torch.Tensor
    indices: tuple[int, ...]


@dataclass(frozen=True)
class QuantizedBase:
    """The weight as 4 bits hold it."""


Prepared = Factors | Bias | Rows | ChosenRows | QuantizedBase


def matrix(tensor: Tensor, data: bytearray, shape: Sequence[int] | None = None) -> torch.Tensor:
    """From the bytes of a tensor, or of rows of one."""
    return torch.frombuffer(data, dtype=_DTYPES[tensor.dtype]).view(tuple(shape or tensor.shape))


def change(tensor: OutputTensor, data: memoryview, first_row: int, prepared: Sequence[Prepared]) -> None:
    """Apply each change in turn, in place, to the rows of `tensor` from `first_row` that `data` holds.

    Raises InvalidInput naming the tensor when a result is not finite.
    """
    dtype = _DTYPES[tensor.dtype]
    elements = torch.frombuffer(data, dtype=dtype)
    aligned = elements.data_ptr() % dtype.itemsize == 0
    rows = (elements if aligned else elements.clone()).view(-1, tensor.columns)
    step = chunk_rows(tensor)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        summed = _change(tensor, chunk, first_row + start, prepared)
        _check_finite(tensor, chunk, summed)
    if not aligned:
        elements.copy_(rows.view(-1))


def _change(tensor: OutputTensor, chunk: torch.Tensor, first: int, prepared: Sequence[Prepared]) -> torch.Tensor | None:
    """What the rows were rounded from, in fp32, where the last change made that."""
    merging = _Merging(tensor, chunk, first)
    summed = None
    for found in prepared:
        summed = None
        match found:
            case Factors():
                summed = merging.merge(found)
            case Bias():
                chunk += found.values * found.scaling
            case Rows():
                start = first - found.first_row
                chunk.copy_(found.values[start : start + len(chunk)])
            case ChosenRows():
                for place, index in enumerate(found.indices):
                    if first <= index < first + len(chunk):
                        chunk[index - first].copy_(found.values[place])
            case QuantizedBase():
                nf4.round_trip(chunk)
    return summed


@dataclass
class _Merging:
    """A layer's weight while its adapters are merged in turn, as PEFT's LoraLayer does it."""

    tensor: OutputTensor
    rows: torch.Tensor
    first: int
    merged: list[tuple[Factors, torch.Tensor | None]] = field(default_factory=list)
    """With the norms that DoRA divided by."""
    unmerged: torch.Tensor | None = None

    def merge(self, factors: Factors) -> torch.Tensor | None:
        """What the rows were rounded from, in fp32, where that was ever made."""
        if factors.magnitude is None and not factors.rounded:
            summed = factors.added_to(self.rows, self.first, self.tensor.rows)
            self.rows.copy_(summed)
            self.merged.append((factors, None))
            return summed
        delta = factors.delta(self.first, len(self.rows), self.tensor.rows)
        if factors.magnitude is None:
            self.rows += delta.to(self.rows.dtype)
            self.merged.append((factors, None))
            return None
        norm = self._norm(factors, delta)
        changed = self._dora_factor(factors, norm) * (self.rows + delta)
        self.rows.copy_(changed.to(self.rows.dtype))
        self.merged.append((factors, norm))
        return None

    def _norm(self, factors: Factors, delta: torch.Tensor) -> torch.Tensor:
        """Of the weight without what was merged before (LoraLayer._unmerged_base_weight)."""
        if self.unmerged is not None:
            return _norm(self.unmerged, delta, factors.form)
        before, self.merged = self.merged, []
        for other, norm in reversed(before):
            self._unmerge(other, norm)
        self.unmerged = self.rows.clone()
        found = _norm(self.unmerged, delta, factors.form)
        for other, _ in before:
            self.merge(other)
        self.unmerged = None
        return found

    def _unmerge(self, factors: Factors, norm: torch.Tensor | None) -> None:
        delta = factors.delta(self.first, len(self.rows), self.tensor.rows)
        if norm is None:
            self.rows -= delta.to(self.rows.dtype)
        else:
            changed = self.rows / self._dora_factor(factors, norm) - delta
            self.rows.copy_(changed.to(self.rows.dtype))

    def _dora_factor(self, factors: Factors, norm: torch.Tensor) -> torch.Tensor:
        assert factors.magnitude is not None
        if factors.form is Form.TRANSPOSED:
            return (factors.magnitude / norm).view(1, -1)
        return (factors.magnitude[self.first : self.first + len(self.rows)] / norm).view(-1, 1)


@lru_cache
def _adds_as_it_multiplies(rows: int, rank: int, columns: int) -> bool:
    """Whether C + AB is, bit for bit, the sum of C and the finished product AB.

    It is where a sum of `rank` products is made at one go. Kernels split longer ones and add C in between, and some for
    small matrices begin with C; where is up to the processor and the library, so it is tried.
    """
    numbers = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(shape, generator=numbers) for shape in ((rows, rank), (rank, columns), (rows, columns)))
    return torch.equal(torch.addmm(c, a, b, alpha=2), (a @ b).mul_(2).add_(c))


def _norm(weight: torch.Tensor, delta: torch.Tensor, form: Form) -> torch.Tensor:
    """Of each output (peft/tuners/lora/dora.py, get_weight_norm)."""
    if form is Form.TRANSPOSED:
        weight, delta = weight.T, delta.T
    changed = weight + 1 * delta
    found: torch.Tensor = torch.linalg.norm(changed, dim=1)
    return found.to(changed.dtype)


def _check_finite(tensor: OutputTensor, chunk: torch.Tensor, summed: torch.Tensor | None) -> None:
    """`summed`: what the chunk was rounded from, in fp32, where that is known.

    Numbers whose squares add up to little are all small, and a sum is finite only if all it adds are. What neither
    shows may still be finite: each element is looked at then.
    """
    if summed is not None and summed.is_contiguous():
        seen = torch.dot(summed.view(-1), summed.view(-1)).item() < _SMALL_SQUARES[chunk.dtype]
    else:
        seen = math.isfinite(chunk.sum(dtype=_SUMMED_IN[chunk.dtype]).item())
    if seen or torch.isfinite(chunk).all():
        return
    raise InvalidInput(
        Reason.UNSUPPORTED_ADAPTER,
        f'tensor "{tensor.name}" would hold NaN or infinity after the merge in {tensor.dtype}: '
        "train the adapter again, lower its scale, or use a base stored with a wider range (BF16 or F32)",
    )
