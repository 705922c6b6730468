"""Packs four-bit weights into AutoAWQ's GEMM format, which vLLM reads as "awq".

A weight W of shape (out, in) becomes, with groups of g along `in`:

    scales   (in / g, out)      F16   (largest - smallest) / 15 of the group
    qzeros   (in / g, out / 8)  I32   round(-smallest / scale), eight to an int32
    qweight  (in, out / 8)      I32   round(W / scale) + zero, eight to an int32
    W ~ (q - zero) · scale

Rounding uses the scale as it is stored, in F16. Eight neighbours along `out` lie in an int32 in the order 0 2 4 6 1 3
5 7, lowest bits first (awq 0.2.9, awq/modules/linear/gemm.py).
"""

import torch

from ftm_jobs.quantize.awq.layout import PACKED

BITS = 4
LARGEST = 2**BITS - 1
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
SMALLEST_RANGE = 1e-5
"""AutoAWQ's floor: a group of equal weights still has a scale."""


def grids(weight: torch.Tensor, group_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the groups' scales (out, in / g) as they are stored, in F16, and zero points of the same shape."""
    groups = weight.reshape(weight.shape[0], -1, group_size)
    high, low = groups.amax(-1), groups.amin(-1)
    scales = ((high - low).clamp(min=SMALLEST_RANGE) / LARGEST).half()
    zeros = (-low / scales.float()).round().clamp(0, LARGEST)
    return scales, zeros


def quantize(weight: torch.Tensor, group_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns qweight, qzeros and scales of fp32 weights of shape (out, in)."""
    scales, zeros = grids(weight, group_size)
    groups = weight.reshape(weight.shape[0], -1, group_size)
    levels = (groups / scales.float()[..., None]).round_().add_(zeros[..., None]).clamp_(0, LARGEST)
    return pack(levels.reshape(weight.shape).t()), pack(zeros.t()), scales.t().contiguous()


def dequantize(qweight: torch.Tensor, qzeros: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Returns the fp32 weight of shape (out, in) that an engine computes with."""
    group_size = qweight.shape[0] // scales.shape[0]
    levels, zeros = unpack(qweight).float(), unpack(qzeros).float()
    repeated = zeros.repeat_interleave(group_size, 0), scales.float().repeat_interleave(group_size, 0)
    return ((levels - repeated[0]) * repeated[1]).t().contiguous()


def pack(levels: torch.Tensor) -> torch.Tensor:
    """Packs (rows, out) of 0…15 into (rows, out / 8) of int32."""
    ordered = levels.to(torch.int32).reshape(levels.shape[0], -1, PACKED)[..., list(ORDER)]
    shifts = torch.arange(0, PACKED * BITS, BITS, dtype=torch.int32, device=levels.device)
    packed = ordered << shifts
    result = packed[..., 0].clone()
    for place in range(1, PACKED):
        result |= packed[..., place]
    return result.contiguous()


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """Unpacks (rows, out / 8) of int32 into (rows, out) of 0…15."""
    shifts = torch.arange(0, PACKED * BITS, BITS, dtype=torch.int32, device=packed.device)
    ordered = (packed[..., None] >> shifts) & LARGEST
    places = torch.tensor([ORDER.index(place) for place in range(PACKED)], device=packed.device)
    levels: torch.Tensor = ordered[..., places].reshape(packed.shape[0], -1)
    return levels
