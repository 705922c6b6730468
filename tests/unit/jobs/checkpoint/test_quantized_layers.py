"""Layers that a quantized base packs are matched to adapters by their 16-bit names and shapes."""

from typing import Any

import pytest

from ftm_jobs.checkpoint.quantized_layers import layers_as_served
from tests.unit.jobs.files import Shapes, header

Q_PROJ = "model.layers.0.self_attn.q_proj"
OTHERS: Shapes = {"model.norm.weight": ("BF16", (64,)), f"{Q_PROJ}.bias": ("BF16", (96,))}
"""They are not packed."""


@pytest.mark.parametrize(
    ("packed", "quantization"),
    [
        (
            {"weight": ("F8_E4M3", (96, 64)), "weight_scale_inv": ("F32", (1, 1))},
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
        ),
        ({"weight": ("F8_E4M3", (96, 64)), "weight_scale": ("BF16", (96, 1))}, {"quant_method": "compressed-tensors"}),
        ({"weight": ("I8", (96, 64)), "weight_scale": ("BF16", (96, 1))}, {"quant_method": "compressed-tensors"}),
        (
            {"qweight": ("I32", (64, 12)), "qzeros": ("I32", (2, 12)), "scales": ("F16", (2, 96))},
            {"quant_method": "awq", "bits": 4, "group_size": 32},
        ),
        (
            {
                "qweight": ("I32", (8, 96)),
                "qzeros": ("I32", (2, 12)),
                "scales": ("F16", (2, 96)),
                "g_idx": ("I32", (64,)),
            },
            {"quant_method": "gptq", "bits": 4},
        ),
        (
            {"qweight": ("I32", (16, 96)), "qzeros": ("I32", (2, 24)), "scales": ("F16", (2, 96))},
            {"quant_method": "gptq", "bits": 8},
        ),
        (
            {"weight_packed": ("I32", (96, 8)), "weight_scale": ("BF16", (96, 2)), "weight_shape": ("I64", (2,))},
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
        ),
        (
            {
                "weight_packed": ("U8", (96, 32)),
                "weight_scale": ("F8_E4M3", (96, 4)),
                "weight_global_scale": ("F32", (1,)),
            },
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
        ),
    ],
    ids=["FP8 in blocks", "FP8", "INT8", "AWQ", "GPTQ", "GPTQ in 8 bits without g_idx", "W4A16", "NVFP4"],
)
def test_a_packed_layer_has_its_16_bit_name_and_shape_and_other_tensors_stay(
    packed: Shapes, quantization: dict[str, Any]
) -> None:
    stored = header({f"{Q_PROJ}.{part}": kind for part, kind in packed.items()} | OTHERS)
    (served,) = layers_as_served([stored], quantization)
    layer = served.tensors[f"{Q_PROJ}.weight"]
    assert (layer.dtype, layer.shape) == ("BF16", (96, 64))
    assert served.tensors.keys() == {f"{Q_PROJ}.weight", *OTHERS}
    assert all(served.tensors[name] == stored.tensors[name] for name in OTHERS)


def test_scales_may_lie_in_another_file_than_their_weight() -> None:
    one = header({f"{Q_PROJ}.qweight": ("I32", (64, 12))}, "one.safetensors")
    other = header({f"{Q_PROJ}.scales": ("F16", (2, 96)), **OTHERS}, "other.safetensors")
    served = layers_as_served([one, other], {"quant_method": "awq"})
    assert [set(found.tensors) for found in served] == [{f"{Q_PROJ}.weight"}, set(OTHERS)]


@pytest.mark.parametrize("groups", [None, {}, [1], {"group_0": 3}, {"group_0": {"weights": {"num_bits": "x"}}}])
def test_a_config_that_says_nothing_of_bits_means_four(groups: Any) -> None:
    stored = header({f"{Q_PROJ}.weight_packed": ("I32", (96, 8))})
    (served,) = layers_as_served([stored], {"config_groups": groups})
    assert served.tensors[f"{Q_PROJ}.weight"].shape == (96, 64)
