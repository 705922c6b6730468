"""Pairs of layers that AWQ may scale are found from their names and shapes alone."""

import re

from ftm_jobs.quantize.awq.scalings import Scaling, proven_by_names

VALUES = Scaling(r"re:.*\.v_proj$", (r"re:.*\.o_proj$",))
GATED = Scaling(r"re:.*\.up_proj$", (r"re:.*\.down_proj$",))


def layer(number: int, key_value: int = 64, *, gate: bool = True) -> dict[str, tuple[int, int]]:
    block = f"model.layers.{number}"
    shapes = {
        f"{block}.self_attn.v_proj": (key_value, 64),
        f"{block}.self_attn.o_proj": (64, 64),
        f"{block}.mlp.up_proj": (128, 64),
        f"{block}.mlp.down_proj": (64, 128),
    }
    return shapes | ({f"{block}.mlp.gate_proj": (128, 64)} if gate else {})


def test_values_are_scaled_against_the_output_and_up_against_down() -> None:
    assert proven_by_names(layer(0) | layer(1), []) == (VALUES, GATED)


def test_grouped_heads_have_no_pair_of_the_same_width() -> None:
    assert proven_by_names(layer(0, key_value=32), []) == (GATED,)


def test_without_a_gate_the_activation_lies_between_up_and_down() -> None:
    assert proven_by_names(layer(0, gate=False), []) == (VALUES,)


def test_one_layer_that_does_not_allow_it_forbids_it_to_all() -> None:
    assert proven_by_names(layer(0) | layer(1, gate=False), []) == (VALUES,)


def test_values_that_are_normalized_are_not_scaled() -> None:
    assert proven_by_names(layer(0), ["model.layers.0.self_attn.v_norm"]) == (GATED,)


def test_what_reads_something_else_too_is_not_scaled() -> None:
    """A convolution beside attention has an out_proj, but no v_proj before it."""
    shapes = {"model.layers.0.conv.out_proj": (64, 64), "model.layers.1.self_attn.v_proj": (64, 64)}
    assert proven_by_names(shapes | {"model.layers.1.self_attn.out_proj": (64, 64)}, []) == ()


def test_experts_under_other_names() -> None:
    expert = "model.layers.0.feed_forward"
    shapes = {f"{expert}.w1": (128, 64), f"{expert}.w2": (64, 128), f"{expert}.w3": (128, 64)}
    assert proven_by_names(shapes, []) == (Scaling(r"re:.*\.w3$", (r"re:.*\.w2$",)),)


def test_within_the_language_model_encoders_are_left_out() -> None:
    found = VALUES.within("model.language_model")
    pattern = re.compile(found.smoothed.removeprefix("re:"))
    assert pattern.match("model.language_model.layers.0.self_attn.v_proj")
    assert not pattern.match("model.vision_tower.encoder.layers.0.self_attn.v_proj")
    assert VALUES.within("") == VALUES
    named = Scaling(r"re:.*language_model\.layers\.\d+\.up_proj$", ())
    assert named.within("model.language_model") == named
