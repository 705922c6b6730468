"""Packed 4-bit weights become the numbers that they stand for."""

import pytest
import torch

from ftm_jobs.errors import InvalidInput
from ftm_jobs.verify.tensors.awq_formats import AwqFormat, DequantizedTensors, pack_awq, read_format, unpack, unpack_awq


class Tensors(dict[str, torch.Tensor]):
    @property
    def names(self) -> frozenset[str]:
        return frozenset(self)

    def read(self, name: str) -> torch.Tensor:
        return self[name]


def test_autoawqs_order_is_undone() -> None:
    packed = torch.tensor([[0x75316420]], dtype=torch.int32)  # nibbles 0 2 4 6 1 3 5 7 from the low bits up
    assert unpack_awq(packed, 4).tolist() == [list(range(8))]
    levels = torch.randint(0, 16, (5, 24), dtype=torch.int32)
    assert torch.equal(unpack_awq(pack_awq(levels), 4), levels)


def test_an_awq_layer_is_level_minus_zero_times_scale() -> None:
    levels, zeros = torch.randint(0, 16, (64, 16)), torch.randint(0, 16, (2, 16))
    scales = torch.rand(2, 16).half()
    source = Tensors(
        {"a.qweight": pack_awq(levels), "a.qzeros": pack_awq(zeros), "a.scales": scales, "norm.weight": torch.ones(4)}
    )
    found = DequantizedTensors(source, AwqFormat("awq", 4, 32, True))
    assert found.names == {"a.weight", "norm.weight"}
    wanted = (levels - zeros.repeat_interleave(32, 0)) * scales.float().repeat_interleave(32, 0)
    torch.testing.assert_close(found.read("a.weight"), wanted.T)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_compressed_tensors_layer_is_what_its_own_library_unpacks(symmetric: bool, bits: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    levels = torch.randint(low, high, (16, 64), dtype=torch.int8)
    zeros = torch.randint(low, high, (16, 2), dtype=torch.int8)
    scales = torch.rand(16, 2)
    source = Tensors(
        {
            "a.weight_packed": helpers.pack_to_int32(levels, bits),
            "a.weight_scale": scales,
            "a.weight_shape": torch.tensor([16, 64]),
        }
    )
    wanted = levels.float()
    if not symmetric:
        source["a.weight_zero_point"] = helpers.pack_to_int32(zeros, bits, packed_dim=0).contiguous()
        wanted = wanted - zeros.float().repeat_interleave(32, 1)
    found = DequantizedTensors(source, AwqFormat("compressed-tensors", bits, 32, not symmetric))
    torch.testing.assert_close(found.read("a.weight"), wanted * scales.repeat_interleave(32, 1))
    assert torch.equal(unpack(source["a.weight_packed"], bits)[:, :64] + low, levels.int())


def test_formats_are_read_and_others_refused_by_name() -> None:
    assert read_format("m", {"quant_method": "awq", "bits": 4, "group_size": 128}) == AwqFormat("awq", 4, 128, True)
    weights = {"num_bits": 4, "group_size": 128, "symmetric": False}
    packed = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"a": {"weights": weights}},
    }
    assert read_format("m", packed) == AwqFormat("compressed-tensors", 4, 128, True)
    with pytest.raises(InvalidInput, match="quant_method 'gptq'"):
        read_format("m", {"quant_method": "gptq"})
    with pytest.raises(InvalidInput, match="actorder"):
        read_format("m", packed | {"config_groups": {"a": {"weights": weights | {"actorder": "group"}}}})
