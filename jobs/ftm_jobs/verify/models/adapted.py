"""A base with its adapters as it was trained: what they add stays beside the weights, and nothing is rounded.

Where an adapter is plain LoRA on a Linear layer, y = W·x + scaling·B·(A·x) is computed as training computed it, so
that it shares no arithmetic with the merge. What else an adapter can do (embeddings, DoRA, experts, whole modules,
biases, Conv1D) goes through the merge's own formulae, in fp32 and without rounding to the weight's dtype: there the
comparison proves what was written, not the formula. `apart` names the former. NF4RoundTrip is done to the base's
weights in both cases.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ftm_jobs.adapters.changes import Form, LowRank, RoundTrip
from ftm_jobs.checkpoint.configs import CONFIG_FILE
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
    """What the adapters make of a base's tensors."""

    inputs: Inputs
    changes: RowChanges
    by_name: Mapping[str, OutputTensor]

    @cached_property
    def roundings(self) -> int:
        """How often a merge rounds a weight, at most."""
        return max((sum(_roundings(change) for change in found.changes) for found in self.by_name.values()), default=1)

    @property
    def changed(self) -> list[OutputTensor]:
        return [tensor for tensor in self.by_name.values() if tensor.changes]

    def apart(self, skeleton: Skeleton) -> frozenset[str]:
        """The changed tensors that need none of the merge's formulae: what is added stays beside them."""
        return frozenset(
            tensor.name for tensor in self.changed if _is_plain(tensor) and skeleton.module_of(tensor.name)
        )

    def write_config(self, folder: Path) -> None:
        """config.json as the adapters change it, over the base's."""
        if CONFIG_FILE in self.inputs.output.documents:
            (folder / CONFIG_FILE).write_bytes(self.inputs.output.documents[CONFIG_FILE])


def adapted(inputs: Inputs) -> AdaptedModel:
    tensors = {tensor.name: tensor for file in inputs.output.files for tensor in file.tensors}
    return AdaptedModel(inputs, RowChanges(inputs), tensors)


class UnmergedTensors:
    """The base's tensors; those that are not adapted apart are changed, in fp32."""

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
    """Merged, then rounded to a float of so few bits that this one rounding is coarser than all of a merge's.

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
        found = _changed(self._base, self._adapters, tensor)
        coarse = found
        if tensor.changes:
            sums = tensor.columns if tensor.dtype == "F32" else 0
            spare = rounding.spare_bits(self._adapters.roundings + sums)
            coarse = rounding.to_mantissa(found, rounding.MANTISSA_BITS[tensor.dtype] - spare)
        if self._compare:
            self._compare(name, found, coarse)
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
    def hook(_: nn.Module, given: tuple[torch.Tensor, ...], found: torch.Tensor) -> torch.Tensor:
        for each in factors:
            inner = functional.linear(given[0], each.a.to(found.device))
            found = found + each.scaling * functional.linear(inner, each.b.to(found.device))
        return found

    return hook


def _changed(base: TensorSource, adapters: AdaptedModel, tensor: OutputTensor) -> torch.Tensor:
    if not tensor.changes:
        return base.read(tensor.name)
    if tensor.replaced or tensor.origin is None:
        found = torch.zeros(tensor.shape)
    else:
        found = base.read(tensor.origin.tensor.name).float().clone().contiguous()
    exact = dataclasses.replace(tensor, dtype="F32")
    apply_changes(exact, _bytes(found), 0, adapters.changes.of(tensor))
    return found


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
    """A contiguous tensor's memory."""
    array: Any = tensor.view(-1).numpy()
    return memoryview(array).cast("B")
