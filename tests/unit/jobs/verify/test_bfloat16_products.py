"""Products of bfloat16 matrices in fp32 are torch's own, but for the order of sums."""

import pytest
import torch
from torch import nn

from ftm_jobs.verify.models.bfloat16_products import multiply_in_fp32, product_of

ULP = 2**-7
"""A bfloat16 number's distance to the next, relative, at most."""


def linear(bias: bool) -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(96, 160, bias=bias).to(torch.bfloat16)


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_the_exact_one_rounded_once(bias: bool) -> None:
    module, given = linear(bias), torch.randn(2, 7, 96).to(torch.bfloat16)
    exact = given.double() @ module.weight.double().T + (module.bias.double() if bias else 0)
    found = product_of(module)(given)
    assert found.dtype is torch.bfloat16
    assert found.shape == (2, 7, 160)
    assert ((found.double() - exact).abs() <= ULP / 2 * exact.abs() + 1e-6).all()


@pytest.mark.parametrize(("amx", "avx512", "own"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_processor_that_has_the_instruction_uses_it(
    amx: bool, avx512: bool, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    model = nn.Sequential(linear(True), nn.LayerNorm(160))
    multiply_in_fp32(model)
    assert ("forward" not in vars(model[0])) is own
    assert "forward" not in vars(model[1])


def test_weights_that_come_later_are_used() -> None:
    module, given = linear(False), torch.ones(1, 96, dtype=torch.bfloat16)
    forward = product_of(module)
    module.weight = nn.Parameter(torch.zeros_like(module.weight))
    assert not forward(given).any()
