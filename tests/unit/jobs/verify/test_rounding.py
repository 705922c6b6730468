"""Plain rounding is what it says, and a bit less is coarser than the roundings it is held against."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_jobs.verify.yardsticks import rounding

SEEDS = st.integers(0, 10_000)


def weights(seed: int, rows: int = 6, columns: int = 96) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 8), st.sampled_from([16, 32, 96, 40]))
def test_rounding_to_bits_is_off_by_half_a_step_and_has_few_levels(seed: int, bits: int, group: int) -> None:
    weight = weights(seed)
    rounded = rounding.to_bits(weight, bits, group)
    assert rounded.shape == weight.shape
    for start in range(0, weight.shape[1], group):
        exact, found = weight[:, start : start + group], rounded[:, start : start + group]
        step = (exact.amax(1).clamp_min(0) - exact.amin(1).clamp_max(0)) / (2**bits - 1)
        assert ((found - exact).abs().amax(1) <= step * 1.001).all()
        assert all(len(row.unique()) <= 2**bits for row in found)


def test_numbers_on_the_grid_stay() -> None:
    grid = torch.arange(-7, 9, dtype=torch.float32).repeat(2, 2)
    torch.testing.assert_close(rounding.to_bits(grid, 4, 16), grid)
    assert torch.equal(rounding.to_bits(torch.zeros(2, 32), 4, 32), torch.zeros(2, 32))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_a_float_with_fewer_bits_is_torchs_own(seed: int) -> None:
    weight = weights(seed)
    assert torch.equal(rounding.to_mantissa(weight, 7), weight.to(torch.bfloat16).float())
    assert torch.equal(rounding.to_mantissa(weight + 1, 10), (weight + 1).to(torch.float16).float()) or (
        (weight + 1).abs().min() < 2**-14
    )
    assert torch.equal(rounding.to_mantissa(weight, 23), weight)


def test_infinities_stay_and_halves_go_to_even() -> None:
    special = torch.tensor([float("inf"), -float("inf"), 1 + 2**-8, 1 + 3 * 2**-8])
    assert rounding.to_mantissa(special, 7).tolist() == [float("inf"), -float("inf"), 1.0, 1 + 2**-6]


@pytest.mark.parametrize("roundings", [1, 2, 3, 4, 5, 8, 16, 17])
def test_spare_bits_make_one_rounding_coarser_than_many(roundings: int) -> None:
    spare = rounding.spare_bits(roundings)
    assert 4**spare >= 4 * roundings
    exact = weights(roundings, 64, 512)
    once = rounding.to_mantissa(exact, 9) - exact
    coarse = rounding.to_mantissa(exact, 9 - spare) - exact
    assert coarse.square().mean() > 2 * roundings * once.square().mean()


def test_activations_are_rounded_to_a_byte_per_group() -> None:
    values = torch.tensor([[127.0, 1.4, -0.4, 0.0], [1.27, 0.5, 0.004, 0.0]])
    expected = torch.tensor([[127.0, 1.0, 0.0, 0.0], [1.27, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(rounding.activations(values, 4), expected)
    assert rounding.activations(torch.randn(3, 100), 32).shape == (3, 100)
