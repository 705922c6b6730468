"""Merges low-rank updates into rows of one layer's weight, in the order and with the roundings of PEFT.

PEFT (peft/tuners/lora/layer.py and variants.py) holds what an adapter learned in fp32 and computes in fp32, so that
each adapter rounds once to the weight's dtype; its Embedding and ParamWrapper round their product first. DoRA's norm
is of the weight without the adapters that were merged before. PEFT therefore takes those out and puts them in again,
each time rounding: the same is done here, row by row.
"""

from dataclasses import dataclass, field

import torch

from ftm_jobs.adapters.changes import Form
from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.merge.arithmetic.factors import Factors


@dataclass
class PeftLayer:
    """Rows of a layer's weight, into which its adapters are merged in turn, as PEFT's LoraLayer does it."""

    tensor: OutputTensor
    rows: torch.Tensor
    first: int
    merged: list[tuple[Factors, torch.Tensor | None]] = field(default_factory=list)
    """Each merged update, with the norms that DoRA divided by."""
    unmerged: torch.Tensor | None = None

    def merge(self, factors: Factors) -> torch.Tensor | None:
        """Adds an update to the rows. Returns what they were rounded from, in fp32, where that was ever made."""
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
        """Returns the norms of the weight without what was merged before (LoraLayer._unmerged_base_weight)."""
        if self.unmerged is not None:
            return _norm(self.unmerged, delta, factors.form)
        before, self.merged = self.merged, []
        for other, norm in reversed(before):
            self._unmerge(other, norm)
        self.unmerged = self.rows.clone()
        norms = _norm(self.unmerged, delta, factors.form)
        for other, _ in before:
            self.merge(other)
        self.unmerged = None
        return norms

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


def _norm(weight: torch.Tensor, delta: torch.Tensor, form: Form) -> torch.Tensor:
    """Returns the norm of each output (peft/tuners/lora/dora.py, get_weight_norm)."""
    if form is Form.TRANSPOSED:
        weight, delta = weight.T, delta.T
    changed = weight + 1 * delta
    norms: torch.Tensor = torch.linalg.norm(changed, dim=1)
    return norms.to(changed.dtype)
