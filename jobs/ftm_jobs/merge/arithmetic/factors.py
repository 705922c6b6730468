"""Multiplies the two small matrices of a low-rank update, in fp32, and adds the product to rows of a weight."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from ftm_jobs.adapters.changes import Expert, Form


@dataclass(frozen=True)
class Factors:
    """Holds a low-rank update of one stored weight: A and B, and how they lie in it."""

    a: torch.Tensor
    """(r, in), or (experts·r, in) for all experts, fp32."""
    b: torch.Tensor
    """(out, r), or (out, r·experts) for all experts, fp32."""
    scaling: float
    form: Form = Form.LINEAR
    rounded: bool = False
    magnitude: torch.Tensor | None = None
    """(out,), fp32."""
    expert: Expert | None = None

    def delta(self, first: int, count: int, rows: int) -> torch.Tensor:
        """Returns rows `first` to `first + count` of what is added to a stored weight of `rows` rows, in fp32."""
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
        """Returns the sum of `stored`, which holds the rows from `first` on, and the update, in fp32.

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


@lru_cache
def _adds_as_it_multiplies(rows: int, rank: int, columns: int) -> bool:
    """Returns whether C + AB is, bit for bit, the sum of C and the finished product AB.

    It is where a sum of `rank` products is made at one go. Kernels split longer ones and add C in between, and some for
    small matrices begin with C; where is up to the processor and the library, so it is tried.
    """
    numbers = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(shape, generator=numbers) for shape in ((rows, rank), (rank, columns), (rows, columns)))
    return torch.equal(torch.addmm(c, a, b, alpha=2), (a @ b).mul_(2).add_(c))
