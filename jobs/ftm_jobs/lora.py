"""The arithmetic of plain LoRA on Linear layers, exactly PEFT's. The only module that imports torch.

PEFT (peft/tuners/lora/layer.py, Linear.get_delta_weight and merge) holds A and B in fp32, computes B·A·scaling in
fp32 and adds it in place, so that each adapter rounds once to the weight's dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ftm_jobs.headers import Tensor
from ftm_jobs.layout import chunk_rows

VERSION = torch.__version__.partition("+")[0]
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

torch.set_num_threads(1)


@dataclass(frozen=True)
class Factors:
    a: torch.Tensor
    """(r, in), fp32."""
    b: torch.Tensor
    """(out, r), fp32."""
    scaling: float


def factors(a: Tensor, a_bytes: bytearray, b: Tensor, b_bytes: bytearray, scaling: float) -> Factors:
    """From the bytes of the adapter's file."""
    return Factors(_matrix(a, a_bytes).float(), _matrix(b, b_bytes).float(), scaling)


def add(weight: Tensor, data: memoryview, first_row: int, updates: Sequence[Factors]) -> None:
    """Add each update in turn, in place, to the rows of `weight` from `first_row` that `data` holds."""
    itemsize = weight.size // weight.elements
    rows = len(data) // (itemsize * weight.shape[1])
    shape = (rows, *weight.shape[1:])
    elements = torch.frombuffer(data, dtype=_DTYPES[weight.dtype])
    aligned = elements.data_ptr() % itemsize == 0
    matrix = (elements if aligned else elements.clone()).view(shape)
    step = chunk_rows(weight.shape)
    for start in range(0, rows, step):
        chunk = matrix[start : start + step]
        for update in updates:
            chunk += (update.b[first_row + start : first_row + start + len(chunk)] @ update.a) * update.scaling
    if not aligned:
        elements.copy_(matrix.view(-1))


def _matrix(tensor: Tensor, data: bytearray) -> torch.Tensor:
    return torch.frombuffer(data, dtype=_DTYPES[tensor.dtype]).view(tensor.shape)
