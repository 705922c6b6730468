"""Computes a base with its adapters as it was trained: updates stay beside the weights, and nothing is rounded.

Where an adapter is plain LoRA on a Linear layer, y = W·x + scaling·B·(A·x) is computed as training computed it, apart
from the merge's arithmetic. Other updates (embeddings, DoRA, experts, whole modules, biases, Conv1D) go through the
merge's own formulae, in fp32 and without rounding to the weight's dtype: there the comparison proves the file that was
written, not the formula. A round trip through NF4 is done to the base's weights in both cases.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ftm_jobs.adapters.changes import Form, LowRank, RoundTrip
from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.merge.arithmetic.factors import Factors
from ftm_jobs.merge.arithmetic.rows import apply_changes
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.merge.row_changes import RowChanges
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.sources import TensorSource
from ftm_jobs.verify.yardsticks import rounding

Compare = Callable[[str, torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True)
class AdaptedModel:
    """The tensors that adapters make of a base's."""

    inputs: Inputs
    changes: RowChanges
    by_name: Mapping[str, OutputTensor]

    @cached_property
    def roundings(self) -> int:
        """Returns how often a merge rounds a weight, at most."""
        counts = (sum(_roundings(change) for change in tensor.changes) for tensor in self.by_name.values())
        return max(counts, default=1)

    @property
    def changed(self) -> list[OutputTensor]:
        return [tensor for tensor in self.by_name.values() if tensor.changes]

    def apart(self, skeleton: Skeleton) -> frozenset[str]:
        """Returns the changed tensors that need none of the merge's formulae, since updates stay beside them."""
        return frozenset(
            tensor.name for tensor in self.changed if _is_plain(tensor) and skeleton.module_of(tensor.name)
        )


def adapt(inputs: Inputs) -> AdaptedModel:
    """Plans what the adapters make of the base's tensors; none is read."""
    tensors = {tensor.name: tensor for file in inputs.output.files for tensor in file.tensors}
    return AdaptedModel(inputs, RowChanges(inputs), tensors)


class UnmergedTensors:
    """Reads the base's tensors; those that are not adapted apart are changed, in fp32."""

    def __init__(self, base: TensorSource, adapters: AdaptedModel, apart: frozenset[str]) -> None:
        self._base = base
        self._adapters = adapters
        self._apart = apart
        self.names = frozenset(adapters.by_name)

    def read(self, name: str) -> torch.Tensor:
        tensor = self._adapters.by_name[name]
        if name in self._apart:
            kept = tuple(change for change in tensor.changes if isinstance(change, RoundTrip))
            tensor = dataclasses.replace(tensor, changes=kept)
        return _changed(self._base, self._adapters, tensor)


class CoarselyMergedTensors:
    """Merges, then rounds to a float of so few bits that this one rounding is coarser than all of a merge's.

    In F32 a merge rounds no coarser than the arithmetic of a layer, which rounds once for each product that it sums:
    those are counted along. `compare` sees each tensor before and after.
    """

    def __init__(self, base: TensorSource, adapters: AdaptedModel, compare: Compare | None = None) -> None:
        self._base = base
        self._adapters = adapters
        self._compare = compare
        self.names = frozenset(adapters.by_name)

    def read(self, name: str) -> torch.Tensor:
        tensor = self._adapters.by_name[name]
        exact = _changed(self._base, self._adapters, tensor)
        coarse = exact
        if tensor.changes:
            sums = tensor.columns if tensor.dtype == "F32" else 0
            spare = rounding.spare_bits(self._adapters.roundings + sums)
            coarse = rounding.to_mantissa(exact, rounding.MANTISSA_BITS[tensor.dtype] - spare)
        if self._compare:
            self._compare(name, exact, coarse)
        return coarse


@dataclass(frozen=True)
class UnmergedLayers:
    """Adds scaling·B·(A·x) to what each plainly adapted Linear layer computes."""

    adapters: AdaptedModel
    apart: frozenset[str]

    def attach(self, skeleton: Skeleton, modules: Mapping[str, nn.Module]) -> list[Any]:
        handles = []
        for name in sorted(self.apart):
            module = skeleton.module_of(name)
            if module and module in modules:
                tensor = self.adapters.by_name[name]
                low_rank = tuple(change for change in tensor.changes if isinstance(change, LowRank))
                factors = self.adapters.changes.of(dataclasses.replace(tensor, changes=low_rank))
                added = [found for found in factors if isinstance(found, Factors)]
                handles.append(modules[module].register_forward_hook(_add(added)))
        return handles


def _add(factors: list[Factors]) -> Any:
    def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        for update in factors:
            inner = functional.linear(inputs[0], update.a.to(output.device))
            output = output + update.scaling * functional.linear(inner, update.b.to(output.device))
        return output

    return hook


def _changed(base: TensorSource, adapters: AdaptedModel, tensor: OutputTensor) -> torch.Tensor:
    if not tensor.changes:
        return base.read(tensor.name)
    if tensor.replaced or tensor.origin is None:
        changed = torch.zeros(tensor.shape)
    else:
        changed = base.read(tensor.origin.tensor.name).float().clone().contiguous()
    exact = dataclasses.replace(tensor, dtype="F32")
    apply_changes(exact, _bytes(changed), 0, adapters.changes.of(tensor))
    return changed


def _is_plain(tensor: OutputTensor) -> bool:
    return bool(tensor.changes) and all(
        isinstance(change, RoundTrip)
        or (
            isinstance(change, LowRank)
            and change.form is Form.LINEAR
            and change.magnitude is None
            and change.expert is None
            and not change.rounded
        )
        for change in tensor.changes
    )


def _roundings(change: Any) -> int:
    if isinstance(change, LowRank) and change.magnitude is not None:
        return 4  # taken out and put in again for the norm, then merged and rounded
    return 2 if isinstance(change, LowRank) and change.rounded else 1


def _bytes(tensor: torch.Tensor) -> memoryview:
    """Returns a contiguous tensor's memory."""
    array: Any = tensor.view(-1).numpy()
    return memoryview(array).cast("B")
