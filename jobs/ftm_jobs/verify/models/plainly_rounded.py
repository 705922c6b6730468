"""Rounds a model plainly, tensor by tensor as the quantized one is: the yardstick for it.

For AWQ these are the Linear layers that it packed, at its bits and groups; for GGUF every tensor by its own type, and
what enters a layer as llama.cpp rounds it. Computed layer by layer, like everything else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ftm_jobs.checkpoint.configs import CONV1D_MODEL_TYPES
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.sources import ChangedTensors, TensorSource
from ftm_jobs.verify.yardsticks import rounding
from ftm_jobs.verify.yardsticks.gguf import Yardstick, engine_rounding, yardstick


def awq_rounding(source: TensorSource, quantized: frozenset[str], bits: int, group: int) -> TensorSource:
    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name not in quantized:
            return tensor
        return rounding.to_bits(tensor, bits, group if group > 0 else tensor.shape[-1])

    return ChangedTensors(source, change)


@dataclass(frozen=True)
class GgufRounding:
    """Rounds as GGUF types do; `kinds` are types by the tensors' names in the model that is rounded."""

    kinds: Mapping[str, str]
    model_type: str

    def tensors(self, source: TensorSource) -> TensorSource:
        return ChangedTensors(source, self._round)

    def attach(self, skeleton: Skeleton, modules: Mapping[str, nn.Module]) -> list[Any]:
        """Rounds what enters the Linear layers that are loaded."""
        return self._attach(skeleton, modules, yardstick)

    def _attach(
        self,
        skeleton: Skeleton,
        modules: Mapping[str, nn.Module],
        rule_of: Callable[[str, str], Yardstick | None],
    ) -> list[Any]:
        handles = []
        for name, kind in self.kinds.items():
            rule = rule_of(name, kind)
            if rule is None:
                continue
            handles += [
                modules[module].register_forward_pre_hook(_rounds_inputs(rule))
                for module in (skeleton.module_of(name), skeleton.tied_head(name))
                if module and module in modules
            ]
        return handles

    def attach_as_engine(self, skeleton: Skeleton, modules: Mapping[str, nn.Module]) -> list[Any]:
        """Rounds what enters the Linear layers that are loaded by as many bits as llama.cpp has for it."""
        return self._attach(skeleton, modules, engine_rounding)

    def _round(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        rule = yardstick(name, self.kinds[name]) if name in self.kinds else None
        if rule is None or tensor.dim() < 2:
            return tensor
        if rule.is_float:
            return rounding.to_mantissa(tensor, rule.bits)
        if self.model_type in CONV1D_MODEL_TYPES and ".c_" in name:
            return rounding.to_bits(tensor.T, rule.bits, rule.group).T.contiguous()
        return rounding.to_bits(tensor, rule.bits, rule.group)


def _rounds_inputs(rule: Yardstick) -> Callable[..., Any]:
    def hook(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if rule.activations:
            return (rounding.activations(given[0], rule.activations), *given[1:])
        return (rounding.to_mantissa(given[0], rule.bits), *given[1:])

    return hook
