"""Each GGUF type stores tensors as llama.cpp does, with its fallbacks, and a person is told of them."""

import pytest

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.gguf.fallbacks import fallback_notes, fallback_storage, fallen_back, refuse_unsuitable
from ftm_jobs.quantize.gguf.file_types import STORAGE, TYPES, Weight, file_type, stored_bytes
from ftm_jobs.quantize.gguf.mixture import GgufArchitecture, asked_storage

LLAMA = GgufArchitecture("llama", layers=16, heads=8, key_value_heads=2)


def llama(hidden: int, inner: int, layers: int = 16, tied: bool = False) -> dict[str, Weight]:
    """A Llama in GGUF's names."""
    shapes = {"token_embd.weight": (1000, hidden), "output_norm.weight": (hidden,)}
    if not tied:
        shapes["output.weight"] = (1000, hidden)
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.attn_q.weight": (hidden, hidden),
            f"blk.{layer}.attn_k.weight": (hidden // 4, hidden),
            f"blk.{layer}.attn_v.weight": (hidden // 4, hidden),
            f"blk.{layer}.attn_output.weight": (hidden, hidden),
            f"blk.{layer}.attn_norm.weight": (hidden,),
            f"blk.{layer}.ffn_gate.weight": (inner, hidden),
            f"blk.{layer}.ffn_up.weight": (inner, hidden),
            f"blk.{layer}.ffn_down.weight": (hidden, inner),
        }
    return {name: Weight(name, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("storage", "bits"),
    [("F32", 32), ("BF16", 16), ("Q8_0", 8.5), ("Q6_K", 6.5625), ("Q5_K", 5.5), ("Q5_1", 6), ("Q4_K", 4.5)],
)
def test_bits_per_weight_are_the_formats(storage: str, bits: float) -> None:
    assert STORAGE[storage].bits == bits


def test_an_unknown_type_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput) as refused:
        file_type("Q4_K")
    assert refused.value.reason is Reason.UNKNOWN_TYPE
    assert refused.value.message == (
        '"Q4_K" is no GGUF type that is made here: write one of Q2_K, Q4_0, Q4_K_M, Q5_K_M, Q8_0, F16, BF16'
    )


def test_q4_k_m_gives_the_weights_that_matter_more_bits() -> None:
    asked = asked_storage(llama(512, 1024).values(), LLAMA, TYPES["Q4_K_M"])
    assert asked["output.weight"] == "Q6_K"
    assert asked["token_embd.weight"] == "Q4_K"
    more = [layer for layer in range(16) if asked[f"blk.{layer}.ffn_down.weight"] == "Q6_K"]
    assert more == [0, 1, 4, 7, 10, 13, 14, 15]
    assert [layer for layer in range(16) if asked[f"blk.{layer}.attn_v.weight"] == "Q6_K"] == more
    assert {asked[f"blk.{layer}.attn_q.weight"] for layer in range(16)} == {"Q4_K"}


def test_q2_k_depends_on_how_many_queries_share_a_key() -> None:
    alone = GgufArchitecture("llama", layers=16, heads=8, key_value_heads=8)
    assert asked_storage(llama(512, 1024).values(), LLAMA, TYPES["Q2_K"])["blk.3.attn_v.weight"] == "Q4_K"
    assert asked_storage(llama(512, 1024).values(), alone, TYPES["Q2_K"])["blk.3.attn_v.weight"] == "Q3_K"


def test_eight_experts_keep_keys_and_values_at_eight_bits() -> None:
    mixtral = GgufArchitecture("llama", layers=16, heads=8, key_value_heads=2, experts=8)
    asked = asked_storage(llama(512, 1024).values(), mixtral, TYPES["Q4_K_M"])
    assert (asked["blk.0.attn_k.weight"], asked["blk.0.attn_v.weight"]) == ("Q8_0", "Q8_0")
    assert asked["blk.0.attn_output.weight"] == "Q5_K"


def test_a_70b_keeps_its_values_at_five_bits() -> None:
    large = GgufArchitecture("llama", layers=80, heads=64, key_value_heads=8)
    asked = asked_storage(llama(512, 1024, layers=80).values(), large, TYPES["Q4_K_M"])
    assert {asked[f"blk.{layer}.attn_v.weight"] for layer in range(80)} == {"Q5_K", "Q6_K"}


def test_importances_change_what_q4_0_stores_in_the_first_layers() -> None:
    plain = asked_storage(llama(512, 1024).values(), LLAMA, TYPES["Q4_0"])
    informed = asked_storage(llama(512, 1024).values(), LLAMA, TYPES["Q4_0"], importance=True)
    changed = {name for name in plain if plain[name] != informed[name]}
    assert changed == {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}


def test_norms_and_routers_are_not_quantized() -> None:
    router = Weight("blk.0.ffn_gate_inp.weight", (8, 512))
    asked = asked_storage([router, *llama(512, 1024).values()], LLAMA, TYPES["Q8_0"])
    assert router.name not in asked
    assert not [name for name in asked if "norm" in name]


@pytest.mark.parametrize(
    ("columns", "asked", "found"),
    [
        (512, "Q4_K", "Q4_K"),
        (576, "Q4_K", "Q5_0"),
        (576, "Q5_K", "Q5_1"),
        (576, "Q6_K", "Q8_0"),
        (576, "Q3_K", "Q4_0"),
        (576, "Q8_0", "Q8_0"),
        (100, "Q4_K", "F16"),
        (100, "Q8_0", "F16"),
    ],
)
def test_rows_that_do_not_suit_fall_back(columns: int, asked: str, found: str) -> None:
    assert fallback_storage(Weight("blk.0.attn_q.weight", (10, columns)), asked) == found


def test_a_type_that_suits_says_nothing() -> None:
    weights = llama(512, 1024)
    asked = asked_storage(weights.values(), LLAMA, TYPES["Q5_K_M"])
    assert fallback_notes(TYPES["Q5_K_M"], weights, asked) == ()
    assert fallen_back(weights, asked) == 0


def test_a_person_is_told_how_many_tensors_fell_back_and_why() -> None:
    weights = llama(576, 1536, tied=True)
    asked = asked_storage(weights.values(), LLAMA, TYPES["Q5_K_M"])
    assert fallen_back(weights, asked) == 96
    layers, embeddings = fallback_notes(TYPES["Q5_K_M"], weights, asked)
    assert layers == (
        "Q5_K_M: 96 of 130 tensors fell back to another type, since 576 columns are no multiple of 256: "
        "88 from Q5_K to Q5_1 and 8 from Q6_K to Q8_0 (attn_k, attn_output, attn_q, attn_v, ffn_gate, ffn_up)"
    )
    assert embeddings == "Q5_K_M: token_embd.weight is Q8_0, not Q6_K, since 576 columns are no multiple of 256"


def test_a_person_is_told_of_widths_that_no_type_can_store() -> None:
    weights = llama(512, 1000)
    (note,) = fallback_notes(TYPES["Q8_0"], weights, asked_storage(weights.values(), LLAMA, TYPES["Q8_0"]))
    assert note == (
        "Q8_0: 16 of 131 tensors fell back to another type, since 1000 columns are no multiple of 32: "
        "16 from Q8_0 to F16 (ffn_down)"
    )


def checkpoint(hidden: int) -> list[Weight]:
    return [
        Weight("model.embed_tokens.weight", (1000, hidden)),
        Weight("model.layers.0.self_attn.q_proj.weight", (hidden, hidden)),
        Weight("model.layers.0.mlp.down_proj.weight", (hidden, 1536)),
        Weight("model.layers.0.mlp.gate.weight", (8, 100)),
        Weight("model.layers.0.input_layernorm.weight", (hidden,)),
    ]


def test_strict_refuses_widths_that_would_fall_back_and_names_what_works() -> None:
    with pytest.raises(InvalidInput) as refused:
        refuse_unsuitable("s3://models/m", TYPES["Q4_K_M"], checkpoint(576))
    assert refused.value.reason is Reason.UNSUITABLE_WIDTHS
    assert refused.value.message == (
        "s3://models/m: Q4_K_M cannot store 2 of 3 weights as it should, since their rows of 576 numbers are no "
        "multiples of 256 (embed_tokens, q_proj): write type Q4_0 or Q8_0 or F16 or BF16, or leave strict out to have "
        "them fall back to larger types"
    )


@pytest.mark.parametrize(("hidden", "type"), [(512, "Q4_K_M"), (576, "Q8_0"), (576, "Q4_0")])
def test_strict_does_not_refuse_widths_that_suit(hidden: int, type: str) -> None:
    refuse_unsuitable("s3://models/m", TYPES[type], checkpoint(hidden))


def test_a_tensor_s_size_is_that_of_its_blocks() -> None:
    assert stored_bytes(Weight("w", (576, 1536)), STORAGE["Q4_K"]) == 576 * 1536 // 256 * 144
