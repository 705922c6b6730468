"""Rounds weights without any cleverness: the yardstick for those who claim some.

`to_bits` rounds to the nearest of 2^bits levels between the smallest and the largest number (and 0) of each group of
consecutive inputs, one of the levels being 0, as 4-bit formats hold them: what a quantizer must beat.
`to_mantissa` rounds each number to a float with fewer bits, `activations` what enters a layer as engines do that
compute in 8 bit. Pure.

A float with m bits of mantissa has an error of at most half a unit in the last place, so its mean square is u²/12.
With one bit less u doubles: four times the mean square, and four times the divergence, which is quadratic in small
errors. `spare_bits` turns that into a bound: n roundings in a row stay below one rounding with 1 + ⌈log₄ n⌉ bits less.
"""

import math

import torch
from torch.nn import functional

MANTISSA_BITS = {"F32": 23, "F16": 10, "BF16": 7}
_FP32_MANTISSA = 23


def to_bits(weight: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Rounds each row (the last dimension) in groups of `group`, the last one shorter if need be; fp32."""
    columns = weight.shape[-1]
    grouped = functional.pad(weight.float(), (0, -columns % group)).view(*weight.shape[:-1], -1, group)
    largest = 2**bits - 1
    low = grouped.amin(-1, keepdim=True).clamp_max(0)
    high = grouped.amax(-1, keepdim=True).clamp_min(0)
    step = ((high - low) / largest).clamp_min(torch.finfo(torch.float32).tiny)
    zero = (-low / step).round()
    levels = ((grouped / step).round() + zero).clamp(0, largest)
    rounded: torch.Tensor = ((levels - zero) * step).flatten(-2)[..., :columns]
    return rounded


def to_mantissa(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Rounds to the nearest number with `bits` bits of mantissa (ties to even) and fp32's range; fp32."""
    dropped = _FP32_MANTISSA - bits
    exact = weight.float()
    if dropped <= 0:
        return exact
    whole = exact.contiguous().view(torch.int32)
    odd = (whole >> dropped) & 1
    rounded = ((whole + ((1 << (dropped - 1)) - 1) + odd) >> dropped) << dropped
    return torch.where(torch.isfinite(exact), rounded.view(torch.float32), exact)


def activations(values: torch.Tensor, group: int, bits: int = 8) -> torch.Tensor:
    """Rounds symmetrically, by a scale for each `group` of inputs, as llama.cpp's Q8 blocks (ggml-quants.c)."""
    columns = values.shape[-1]
    grouped = functional.pad(values, (0, -columns % group)).view(*values.shape[:-1], -1, group)
    scale = grouped.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    rounded = torch.where(scale > 0, (grouped / scale).round() * scale, 0.0)
    return rounded.flatten(-2)[..., :columns]


def spare_bits(roundings: int) -> int:
    """Returns how many bits fewer make one rounding coarser than `roundings` of them with all bits."""
    if roundings <= 1:
        return 1
    return 1 + math.ceil(math.log(roundings, 4))
