"""Chunks of rows, computed as they stream by, against PEFT's formula on the whole weight: bit for bit."""

import pytest
import torch

from ftm_jobs import lora
from ftm_jobs.output import OutputTensor

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
BITS = {2: torch.int16, 4: torch.int32}


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
    lora.change(tensor, memoryview(data), 0, [lora.Factors(a, b, scaling)])

    found = torch.frombuffer(data, dtype=stored.dtype).view(rows, columns)
    bits = BITS[stored.element_size()]
    assert int((found.view(bits) != wanted.view(bits)).sum()) == 0
