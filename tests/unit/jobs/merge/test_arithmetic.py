"""Chunks of rows, computed as they stream by, against PEFT's formula on the whole weight: bit for bit."""

import math

import pytest
import torch

from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.errors import InvalidInput
from ftm_jobs.merge.arithmetic.factors import Factors
from ftm_jobs.merge.arithmetic.rows import apply_changes, compute_on_one_thread

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
BITS = {2: torch.int16, 4: torch.int32}


@pytest.fixture(autouse=True)
def threads_of_a_merge() -> None:
    compute_on_one_thread()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaling", [2.0, 0.25, -1.0, 0.7, 16 / 3])
@pytest.mark.parametrize(
    ("rows", "rank", "columns"),
    [(16, 2, 7), (77, 8, 129), (640, 1, 576), (640, 16, 2048), (640, 64, 2048), (640, 256, 1024), (320, 512, 1024)],
)
def test_a_low_rank_update_is_added_to_the_bit(dtype: str, scaling: float, rows: int, rank: int, columns: int) -> None:
    numbers = torch.Generator().manual_seed(rank)
    stored = (torch.randn((rows, columns), generator=numbers) * 0.02).to(DTYPES[dtype])
    stored[:, ::5], stored[:, 1::10] = 0.0, -0.0
    a = torch.randn((rank, columns), generator=numbers) * 0.02
    b = torch.randn((rows, rank), generator=numbers) * 0.02
    b[::3], b[1::9] = 0.0, -0.0
    wanted = (stored + (b @ a) * scaling).to(stored.dtype)

    data = bytearray(stored.view(torch.uint8).numpy().tobytes())
    tensor = OutputTensor("model.layers.0.self_attn.q_proj.weight", dtype, (rows, columns), None)
    apply_changes(tensor, memoryview(data), 0, [Factors(a, b, scaling)])

    found = torch.frombuffer(data, dtype=stored.dtype).view(rows, columns)
    bits = BITS[stored.element_size()]
    assert int((found.view(bits) != wanted.view(bits)).sum()) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaling", [1.0, 0.7])
@pytest.mark.parametrize(("of_largest", "fits"), [(0.6, True), (0.99, True), (1.01, False), (math.nan, False)])
def test_large_numbers_are_merged_and_those_too_large_for_the_dtype_are_refused(
    dtype: str, scaling: float, of_largest: float, fits: bool
) -> None:
    stored = torch.full((64, 64), torch.finfo(DTYPES[dtype]).max * 0.5, dtype=DTYPES[dtype])
    a, b = torch.zeros((1, 64)), torch.zeros((64, 1))
    a[0, 7] = torch.finfo(DTYPES[dtype]).max * (of_largest - 0.5) / scaling
    b[9] = 1
    data = bytearray(stored.view(torch.uint8).numpy().tobytes())
    tensor = OutputTensor("model.layers.0.self_attn.q_proj.weight", dtype, (64, 64), None)
    if fits:
        apply_changes(tensor, memoryview(data), 0, [Factors(a, b, scaling)])
    else:
        with pytest.raises(InvalidInput, match=r'"model.layers.0.self_attn.q_proj.weight" would hold NaN or infinity'):
            apply_changes(tensor, memoryview(data), 0, [Factors(a, b, scaling)])
