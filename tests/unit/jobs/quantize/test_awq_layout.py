"""An AWQ model gets a group size and an MLP width that every rank's kernel can hold, and the words that say so."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.layout import GROUP_SIZES, PACKED, PADDING_LIMIT, AwqLayout, plan_layout

PREFIX = "model.layers.0"


def llama(hidden: int, mlp: int, heads: int, key_value_heads: int, head: int = 128) -> dict[str, tuple[int, ...]]:
    sizes = {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (key_value_heads * head, hidden),
        "self_attn.v_proj": (key_value_heads * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (mlp, hidden),
        "mlp.up_proj": (mlp, hidden),
        "mlp.down_proj": (hidden, mlp),
    }
    shapes: dict[str, tuple[int, ...]] = {f"{PREFIX}.{name}.weight": shape for name, shape in sizes.items()}
    norms = {f"{PREFIX}.input_layernorm.weight": (hidden,), "model.norm.weight": (hidden,)}
    return {"model.embed_tokens.weight": (1000, hidden), **shapes, **norms, "lm_head.weight": (1000, hidden)}


def config(mlp: int, key_value_heads: int) -> dict[str, Any]:
    return {"intermediate_size": mlp, "num_key_value_heads": key_value_heads}


def planned(shape: tuple[int, int, int, int, int], asked: int, sizes: tuple[int, ...]) -> AwqLayout:
    return plan_layout(config(shape[1], shape[3]), llama(*shape), asked, sizes)


MISTRAL_7B = (4096, 14336, 32, 8, 128)
QWEN_72B = (8192, 29568, 64, 8, 128)
SMOLLM2_135M = (576, 1536, 9, 3, 64)
QWEN_05B = (896, 4864, 14, 2, 64)
PADDED = (
    "the MLP's width is padded with zeros from 29568 to 29696 (0.4% more), which changes no output, so that groups of "
    "128 fit with tensor parallel sizes 1, 2, 4 or 8"
)
SPLIT = (
    f"group size 64 instead of 128: {PREFIX}.self_attn.o_proj has an input of 896 split over 2 ranks, "
    "no multiple of 128"
)


@pytest.mark.parametrize(
    ("shape", "asked", "sizes", "group", "width", "notes"),
    [
        (MISTRAL_7B, 128, (1, 2, 4, 8), 128, 14336, []),
        (MISTRAL_7B, 64, (1,), 64, 14336, []),
        (QWEN_72B, 128, (1,), 128, 29568, []),
        (
            QWEN_72B,
            128,
            (1, 2, 4, 8),
            128,
            29696,
            [PADDED],
        ),
        (
            SMOLLM2_135M,
            128,
            (1,),
            64,
            1536,
            [f"group size 64 instead of 128: {PREFIX}.self_attn.q_proj has an input of 576, no multiple of 128"],
        ),
        (
            (1024, 2816, 8, 8, 104),
            128,
            (1, 2),
            32,
            2816,
            None,
        ),
        (
            QWEN_05B,
            128,
            (1, 2),
            64,
            4864,
            [SPLIT],
        ),
        (
            (512, 176, 4, 4, 128),
            128,
            (1,),
            64,
            192,
            None,
        ),
    ],
    ids=["fits", "asked", "one rank", "padded", "hidden width", "three quarters", "ranks", "small"],
)
def test_group_size_falls_back_and_the_mlp_is_padded(
    shape: tuple[int, int, int, int, int],
    asked: int,
    sizes: tuple[int, ...],
    group: int,
    width: int,
    notes: list[str] | None,
) -> None:
    found = planned(shape, asked, sizes)
    assert (found.group_size, found.widths.get("intermediate_size", shape[1])) == (group, width)
    if notes is not None:
        assert list(found.notes) == notes


@given(
    st.integers(1, 40).map(lambda number: number * 32),
    st.integers(1, 4000).map(lambda number: number * 2),
    st.sampled_from([(8, 8), (8, 2), (16, 4), (12, 3)]),
    st.sampled_from([32, 64, 80, 128]),
    st.sampled_from(GROUP_SIZES),
    st.sets(st.sampled_from([1, 2, 4, 8])),
)
def test_whatever_is_planned_suits_every_rank(
    hidden: int, mlp: int, heads: tuple[int, int], head: int, asked: int, sizes: set[int]
) -> None:
    shapes = llama(hidden, mlp, *heads, head)
    try:
        found = plan_layout(config(mlp, heads[1]), shapes, asked, sizes)
    except InvalidInput:
        return  # of which others tell
    width = found.widths.get("intermediate_size", mlp)
    assert found.group_size <= asked
    assert width >= mlp
    for size in {1, *sizes}:
        for linear in found.linears:
            split = linear.role in ("o_proj", "down_proj")
            outputs = 1 if split else min(size, heads[1]) if linear.role in ("k_proj", "v_proj") else size
            assert linear.input % ((size if split else 1) * found.group_size) == 0
            assert linear.output % (outputs * PACKED) == 0


@given(st.integers(1, 4000).map(lambda number: number * 8), st.sampled_from([(1,), (1, 2), (1, 2, 4, 8)]))
def test_no_smaller_group_is_taken_where_a_little_padding_keeps_the_larger(mlp: int, sizes: tuple[int, ...]) -> None:
    unit = 128 * max(sizes)
    padding = -(-mlp // unit) * unit / mlp - 1
    found = planned((4096, mlp, 32, 8, 128), 128, sizes)
    width = found.widths.get("intermediate_size", mlp)
    assert found.group_size == 128 or padding > PADDING_LIMIT
    assert width / mlp - 1 <= max(padding, PADDING_LIMIT)
    assert width / mlp - 1 <= padding or found.group_size < 128


def test_a_layer_that_no_group_fits_is_refused_by_name_and_width() -> None:
    with pytest.raises(InvalidInput) as refused:
        planned((4096 + 16, 14336, 32, 8, 128), 128, (1,))
    assert refused.value.reason == Reason.UNSUITABLE_WIDTHS
    assert refused.value.message == (
        f"{PREFIX}.self_attn.q_proj has an input of 4112, no multiple of 32: AWQ cannot hold this model; "
        "write quantization.method: GGUF, or None"
    )


def test_a_tensor_parallel_size_that_nothing_fits_is_named() -> None:
    with pytest.raises(
        InvalidInput, match=r"o_proj has an input of 576 split over 4 ranks, no multiple of 32: .* GGUF"
    ):
        planned(SMOLLM2_135M, 128, (4,))


def test_key_value_heads_have_copies_where_there_are_more_ranks_than_heads() -> None:
    assert planned((4096, 14336, 32, 1, 40), 128, (8,)).group_size == 32
    with pytest.raises(InvalidInput, match=r"k_proj has an output of 120 split over 2 ranks, no multiple of 8"):
        planned((4096, 14336, 32, 3, 40), 128, (2,))


def test_padding_of_a_few_percent_is_preferred_to_a_smaller_group_and_more_is_not() -> None:
    assert planned((4096, 14336 - 32, 32, 8, 128), 128, (1,)).group_size == 128
    assert planned((4096, 192, 32, 8, 128), 128, (1,)).group_size == 64


def test_a_group_size_that_kernels_do_not_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match="group size 100 is not supported: write 128, 64 or 32"):
        planned(MISTRAL_7B, 100, (1,))


def test_a_width_that_config_json_does_not_say_cannot_be_padded() -> None:
    with pytest.raises(InvalidInput, match="an MLP is 29568 wide, which would have to be padded, but none of"):
        plan_layout({"num_key_value_heads": 8}, llama(*QWEN_72B), 128, (8,))


def test_a_model_without_linear_layers_in_blocks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no linear layers in numbered blocks"):
        plan_layout({}, {"model.embed_tokens.weight": (8, 8)})


def test_routers_norms_embeddings_and_the_output_layer_are_not_quantized() -> None:
    shapes = {
        **llama(*MISTRAL_7B),
        f"{PREFIX}.block_sparse_moe.gate.weight": (8, 4096),
        f"{PREFIX}.mlp.shared_expert_gate.weight": (1, 4096),
        f"{PREFIX}.block_sparse_moe.experts.3.w2.weight": (4096, 14336),
    }
    roles = [linear.role for linear in plan_layout(config(14336, 8), shapes).linears]
    assert sorted(roles) == sorted(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "w2"])


def test_only_the_language_model_of_a_vision_language_model_is_quantized_and_padded() -> None:
    text = {f"language_model.{name}": shape for name, shape in llama(*QWEN_72B).items()}
    tower = "visual.blocks.0.mlp."
    vision = {f"{tower}down_proj.weight": (1280, 29568), f"{tower}up_proj.weight": (29568, 1280)}
    nested = {"text_config": config(29568, 8), "vision_config": {"intermediate_size": 29568}}
    found = plan_layout(nested, {**text, **vision}, 128, (8,))
    assert found.widths == {"text_config.intermediate_size": 29696}
    assert not any(linear.name.startswith("visual") for linear in found.linears)
    assert found.padded_shape(f"{tower}down_proj.weight", (1280, 29568)) == (1280, 29568)
    assert found.padded_shape(f"language_model.{PREFIX}.mlp.down_proj.weight", (8192, 29568)) == (8192, 29696)


def test_key_value_heads_are_those_of_the_language_model() -> None:
    """Two of them over two ranks: each has 68 outputs; with one head each rank would have it whole."""
    text = {f"language_model.{name}": shape for name, shape in llama(4096, 16384, 64, 2, 68).items()}
    nested = {"text_config": config(16384, 2)}
    with pytest.raises(InvalidInput, match=r"k_proj has an output of 136 split over 2 ranks"):
        plan_layout(nested, text, 32, (2,))


def test_layers_beyond_the_decoder_are_left_out_and_named() -> None:
    shapes = {**llama(*MISTRAL_7B), "model.layers.1.eh_proj.weight": (4096, 100), "mtp.layers.0.fc.weight": (4096, 100)}
    found = plan_layout({**config(14336, 8), "num_hidden_layers": 1}, shapes)
    assert all(linear.name.startswith(PREFIX) for linear in found.linears)
    assert found.notes == (
        "left out, since engines load what lies beyond the decoder for speculation alone: model.layers.1, mtp.layers.0",
    )


def test_experts_that_lie_in_one_tensor_are_refused_before_anything_is_done() -> None:
    shapes = {**llama(*MISTRAL_7B), f"{PREFIX}.feed_forward.experts.down_proj": (16, 8192, 5120)}
    with pytest.raises(
        InvalidInput, match=r"experts\.down_proj holds the matrices of all experts of a layer"
    ) as refused:
        plan_layout(config(14336, 8), shapes)
    assert refused.value.reason == Reason.UNSUPPORTED_MODEL


def test_gate_and_up_in_one_matrix_are_padded_each() -> None:
    shapes = llama(*QWEN_72B)
    del shapes[f"{PREFIX}.mlp.gate_proj.weight"], shapes[f"{PREFIX}.mlp.up_proj.weight"]
    shapes[f"{PREFIX}.mlp.gate_up_proj.weight"] = (2 * 29568, 8192)
    found = plan_layout(config(29568, 8), shapes, 128, (8,))
    assert found.padded_shape(f"{PREFIX}.mlp.gate_up_proj.weight", (2 * 29568, 8192)) == (2 * 29696, 8192)
    assert found.padded_shape(f"{PREFIX}.mlp.down_proj.weight", (8192, 29568)) == (8192, 29696)
    assert found.padded_shape(f"{PREFIX}.mlp.down_proj.bias", (8192,)) == (8192,)
