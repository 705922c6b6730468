"""Rounds weights to 4-bit NormalFloat and back, as QLoRA's base was while the adapter was trained.

The result is that of bitsandbytes with quant_type nf4, a block size of 64 and no double quantization: each 64
consecutive numbers are divided by the largest of them and rounded to the nearest of 16 levels (Dettmers et al., arXiv
2305.14314, appendix E).
"""

import torch

from ftm_jobs.adapters.changes import NF4_BLOCK

LEVELS = torch.tensor(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ]
)
_MIDDLES = (LEVELS[1:] + LEVELS[:-1]) / 2


def round_trip(weight: torch.Tensor) -> None:
    """Quantizes and dequantizes rows in place; a row's length must be a multiple of NF4_BLOCK."""
    blocks = weight.float().view(-1, NF4_BLOCK)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    scaled = blocks * torch.where(largest > 0, 1 / largest, largest)
    weight.copy_((LEVELS[torch.bucketize(scaled, _MIDDLES)] * largest).view(weight.shape))
