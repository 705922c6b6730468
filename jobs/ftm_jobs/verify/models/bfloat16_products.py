"""Multiplies bfloat16 matrices on processors that have no instruction for it, in fp32.

A product of bfloat16 matrices is summed up in fp32 and rounded once, at its end. torch's own takes five times as long
as fp32's where the processor lacks the instruction.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def multiply_in_fp32(model: nn.Module) -> None:
    """Has the Linear modules of a bfloat16 model compute so, if this processor cannot do it by itself."""
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            vars(module)["forward"] = product_of(module)


def product_of(linear: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a forward for a module whose weights may come and go: (…, in) to (…, out), in the dtype that is given."""

    def forward(given: torch.Tensor) -> torch.Tensor:
        bias = None if linear.bias is None else linear.bias.float()
        return functional.linear(given.float(), linear.weight.float(), bias).to(given.dtype)

    return forward
