"""Compares each tensor of a merged model with the one that base and adapters make, as both stream by.

Logits average over a model, so one forgotten layer drowns in the rounding of all others; weights do not average. An
unchanged tensor must be the base's, number by number. A changed one may be off by rounding: by less, in the root of
the mean square, than rounding it with a bit less would be. Formulae are the merge's own here, in fp32; that base and
adapter mean what they should is what the comparison of logits shows. Pure but for reading tensors.
"""

from collections.abc import Iterable

import torch

from ftm_jobs.verify.figures.difference import Difference
from ftm_jobs.verify.tensors.sources import StoredTensors


class MergedWeights:
    """Compares the tensors that `see` is given, and tells those that are wrong by `differences`."""

    def __init__(self, merged: StoredTensors) -> None:
        self._merged = merged
        self._found: dict[str, Difference | None] = {}

    def see(self, name: str, exact: torch.Tensor, coarse: torch.Tensor) -> None:
        """Compares a tensor; `exact` is the right merge before rounding, `coarse` after rounding with a bit less."""
        if name not in self._found:
            self._found[name] = self._compare(name, exact, coarse)

    def differences(self) -> list[Difference]:
        extra = [
            Difference(f"tensor {name}", "no tensor of base+adapter", "one of the merged model")
            for name in sorted(self._merged.names - self._found.keys())
        ]
        return [found for found in self._found.values() if found] + extra

    def unseen(self, names: Iterable[str]) -> list[str]:
        return sorted(set(names) - self._found.keys())

    @property
    def compared(self) -> int:
        return len(self._found)

    def _compare(self, name: str, exact: torch.Tensor, coarse: torch.Tensor) -> Difference | None:
        if name not in self._merged.names:
            return Difference(f"tensor {name}", f"of shape {list(exact.shape)}", "missing")
        merged = self._merged.read(name)
        if merged.shape != exact.shape:
            return Difference(f"tensor {name}", f"of shape {list(exact.shape)}", f"of shape {list(merged.shape)}")
        if not merged.is_floating_point():
            same = torch.equal(merged, exact)
            return None if same else Difference(f"tensor {name}", "the base's", "other numbers")
        error, bound = _rms(merged.float() - exact), _rms(coarse - exact.float())
        if error <= bound:  # both 0 where nothing is changed; false for NaN
            return None
        return Difference(f"tensor {name}", f"base+adapter within {bound:.3g}", f"off by {error:.3g}")


def _rms(values: torch.Tensor) -> float:
    """Returns the root of the mean square, in fp32."""
    return float(values.float().square().mean().sqrt()) if values.numel() else 0.0
