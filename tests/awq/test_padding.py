"""A padded MLP is the same MLP, and what is packed is what was rounded."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.errors import Failed
from ftm_jobs.quantize.awq.engines.packing import LARGEST, dequantize, grids, pack, quantize, unpack
from ftm_jobs.quantize.awq.engines.tensor_files import PaddedWeights, TensorWriter
from ftm_jobs.quantize.awq.layout import PACKED, AwqLayout, plan_layout

PREFIX = "model.layers.0.mlp"


def mlp(
    folder: Path, hidden: int, width: int, fused: bool, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(hidden * 1000 + width)
    gate, up = (torch.randn(width, hidden, generator=generator, dtype=dtype) for _ in range(2))
    found = {f"{PREFIX}.down_proj.weight": torch.randn(hidden, width, generator=generator, dtype=dtype)}
    if fused:
        found[f"{PREFIX}.gate_up_proj.weight"] = torch.cat([gate, up])
    else:
        found |= {f"{PREFIX}.gate_proj.weight": gate, f"{PREFIX}.up_proj.weight": up}
    save_file(found, folder / "model.safetensors")
    return found


def forward(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    fused = weights.get(f"{PREFIX}.gate_up_proj.weight")
    gate, up = (
        fused.chunk(2)
        if fused is not None
        else (weights[f"{PREFIX}.gate_proj.weight"], weights[f"{PREFIX}.up_proj.weight"])
    )
    return (torch.nn.functional.silu(x @ gate.t()) * (x @ up.t())) @ weights[f"{PREFIX}.down_proj.weight"].t()


@given(st.sampled_from([32, 96]), st.integers(1, 300), st.booleans(), st.sampled_from([(1,), (1, 2), (1, 2, 4)]))
@settings(max_examples=40, deadline=None)
def test_a_padded_mlp_computes_the_same(
    tmp_path_factory: pytest.TempPathFactory, hidden: int, width: int, fused: bool, sizes: tuple[int, ...]
) -> None:
    folder = tmp_path_factory.mktemp("mlp")
    before = mlp(folder, hidden, width, fused, torch.float64)
    config = {"intermediate_size": width, "num_key_value_heads": 1}
    layout = plan_layout(config, {name: tuple(each.shape) for name, each in before.items()}, 32, sizes)
    weights = PaddedWeights(folder, ["model.safetensors"], layout)
    after = {name: weights.read(name) for name in before}
    padded = layout.widths.get("intermediate_size", width)
    assert after[f"{PREFIX}.down_proj.weight"].shape == (hidden, padded)
    assert padded % (32 * max(sizes)) == 0
    for name, tensor in after.items():
        assert weights.shape(name) == tuple(tensor.shape)
        assert tensor.count_nonzero() == before[name].count_nonzero()
    x = torch.randn(5, hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # Zeros are added exactly, but a kernel may group the other terms of the sum differently: hence not bit for bit.
    torch.testing.assert_close(forward(after, x), forward(before, x), rtol=1e-13, atol=1e-12)


def test_padding_the_fused_matrix_without_regard_to_its_halves_would_be_noticed(tmp_path: Path) -> None:
    before = mlp(tmp_path, 32, 40, fused=True)
    layout = AwqLayout(32, (), padded={40: 64})
    name = f"{PREFIX}.gate_up_proj.weight"
    found = PaddedWeights(tmp_path, ["model.safetensors"], layout).read(name)
    assert torch.equal(found[:40], before[name][:40])
    assert torch.equal(found[64:104], before[name][40:])


@given(st.integers(1, 6), st.integers(1, 6))
def test_what_is_packed_is_unpacked(rows: int, words: int) -> None:
    levels = torch.randint(0, LARGEST + 1, (rows, words * PACKED), generator=torch.Generator().manual_seed(rows))
    assert torch.equal(unpack(pack(levels)), levels.to(torch.int32))


def test_eight_neighbours_lie_in_autoawqs_order() -> None:
    (packed,) = pack(torch.arange(8)[None])[0].tolist()
    assert [(packed >> shift) & 15 for shift in range(0, 32, 4)] == [0, 2, 4, 6, 1, 3, 5, 7]


@given(st.sampled_from([1e-6, 1e-3, 1.0, 1000.0]), st.sampled_from([32, 64]), st.booleans())
def test_every_weight_is_within_half_a_step_of_what_is_stored(scale: float, group: int, shifted: bool) -> None:
    generator = torch.Generator().manual_seed(group)
    weight = torch.randn(16, 4 * group, generator=generator) * scale + (scale if shifted else 0)
    scales, _ = grids(weight, group)
    off = (dequantize(*quantize(weight, group)) - weight).abs()
    step = scales.float().repeat_interleave(group, 1)
    within_range = (weight.reshape(16, -1, group).amin(-1) <= 0) & (weight.reshape(16, -1, group).amax(-1) >= 0)
    assert bool((off <= step * 1.01 + 1e-7)[within_range.repeat_interleave(group, 1)].all())


def test_zero_points_are_whole_so_that_a_zero_weight_stays_zero() -> None:
    weight = torch.linspace(-0.31, 1.0, 64).repeat(8, 1)
    weight[:, 5] = 0
    assert not dequantize(*quantize(weight, 64))[:, 5].any()
    _, zeros = grids(weight, 64)
    assert torch.equal(zeros, zeros.round())


def test_a_group_of_zeros_stays_zero() -> None:
    assert not dequantize(*quantize(torch.zeros(8, 64), 32)).any()


def test_files_are_split_and_every_tensor_is_read_back(tmp_path: Path) -> None:
    tensors = {f"t{number}": torch.full((4, 8), float(number)) for number in range(5)}
    planned = [OutputTensor(name, "F32", (4, 8), None) for name in tensors]
    with TensorWriter(tmp_path, planned, largest=600) as files:
        for name in reversed(tensors):
            files.write({name: tensors[name]})
    found = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(found) > 1
    assert (tmp_path / "model.safetensors.index.json").exists()
    read = PaddedWeights(tmp_path, found, AwqLayout(32, ()))
    assert all(torch.equal(read.read(name), tensor) for name, tensor in tensors.items())


def test_a_tensor_that_is_forgotten_or_of_another_shape_is_an_error(tmp_path: Path) -> None:
    planned = [OutputTensor(name, "F32", (2,), None) for name in "ab"]
    with pytest.raises(Failed, match='1 tensors were not written, "b" first'), TensorWriter(tmp_path, planned) as files:
        files.write({"a": torch.zeros(2)})
    with pytest.raises(Failed, match='"a" became F32'), TensorWriter(tmp_path, planned) as files:
        files.write({"a": torch.zeros(3)})
