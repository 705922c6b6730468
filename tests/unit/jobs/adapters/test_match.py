"""An adapter is found to fit a base or not, from headers alone."""

from typing import Any

import pytest

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import LowRank, Replace, Update
from ftm_jobs.adapters.match import match
from ftm_jobs.checkpoint.adapter_config import parse_adapter_config
from ftm_jobs.errors import InvalidInput, Reason
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, Q_PROJ, Shapes, header

FILE = "s3://models/a/adapter_model.safetensors"
PREFIX = f"base_model.model.{Q_PROJ}"
A, B = f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"


def fit(
    shapes: Shapes = ADAPTER_SHAPES,
    base: Shapes = BASE_SHAPES,
    tied: bool = False,
    model_type: str = "llama",
    architecture: str = "LlamaForCausalLM",
    **config: Any,
) -> list[Update]:
    content = {"architectures": [architecture], "model_type": model_type}
    tensors = BaseTensors("s3://models/base", model_type, tied, [header(base)], config=content)
    parsed = parse_adapter_config("adapter_config.json", ADAPTER_CONFIG | config)
    return match(tensors, AppliedAdapter(0, FILE, parsed, 1.0), header(shapes))


def refusal(**changes: Any) -> tuple[Reason, str]:
    with pytest.raises(InvalidInput) as caught:
        fit(**changes)
    return caught.value.reason, caught.value.message


def test_an_adapter_of_the_base_gives_one_update_per_layer() -> None:
    (update,) = fit()
    change = update.change
    assert isinstance(change, LowRank)
    assert (update.weight, change.module, change.rank, change.scaling) == (f"{Q_PROJ}.weight", Q_PROJ, 2, 2.0)
    assert (change.a.shape, change.b.shape) == ((2, 8), (8, 2))


def test_each_mismatch_names_the_file_the_tensor_and_what_fits() -> None:
    wide = ADAPTER_SHAPES | {A: ("F32", (2, 16))}
    reason, message = refusal(shapes=wide)
    assert reason is Reason.ADAPTER_MISMATCH
    assert message == (
        f'{FILE} tensor "{A}" of shape (2, 16) needs (r, 8) to fit "{Q_PROJ}.weight" of shape (8, 8) in '
        "s3://models/base/model.safetensors: use the base that the adapter was trained on"
    )
    tall = ADAPTER_SHAPES | {B: ("F32", (16, 2))}
    assert f'"{B}" of shape (16, 2) needs (8, r)' in refusal(shapes=tall)[1]
    uneven = ADAPTER_SHAPES | {B: ("F32", (8, 4))}
    assert f'"{B}" of shape (8, 4) needs (…, 2), the rank of "{A}"' in refusal(shapes=uneven)[1]
    other_rank: Shapes = {A: ("F32", (4, 8)), B: ("F32", (8, 4))}
    assert f'tensor "{A}" has rank 4 but adapter_config.json says 2' in refusal(shapes=other_rank)[1]
    absent: Shapes = {name.replace("layers.0", "layers.7"): shape for name, shape in ADAPTER_SHAPES.items()}
    reason, message = refusal(shapes=absent)
    assert reason is Reason.ADAPTER_MISMATCH
    assert 'adapts "model.layers.7.self_attn.q_proj.weight", which s3://models/base does not have' in message


def test_another_base_is_asked_for_only_where_one_would_fit() -> None:
    absent: Shapes = {name.replace("layers.0", "layers.7"): shape for name, shape in ADAPTER_SHAPES.items()}
    some = "1 of its 2 adapted layers are in this base; use the base that the adapter was trained on"
    assert refusal(shapes=ADAPTER_SHAPES | absent)[1].endswith(some)
    named = refusal(shapes=absent, base_model_name_or_path="org/other")[1]
    assert named.endswith("use the base that the adapter was trained on, which adapter_config.json says is org/other")
    same = refusal(shapes=absent, base_model_name_or_path="org/Base")[1]
    assert same.endswith(
        "0 of its 1 adapted layers are in this base; adapter_config.json names org/Base as its base, as this one is "
        "called: use the version of it that the adapter was trained on"
    )
    uneven = refusal(shapes=ADAPTER_SHAPES | {B: ("F32", (8, 4))})[1]
    assert uneven.endswith("the two are of different trainings; save the adapter again")


def test_a_half_of_a_pair_is_refused() -> None:
    assert f'has tensor "{A}" but no "{B}"' in refusal(shapes={A: ("F32", (2, 8))})[1]


@pytest.mark.parametrize(
    ("name", "reason", "sentence"),
    [
        (f"{PREFIX}.lora_diag", Reason.UNSUPPORTED_ADAPTER, "belongs to a kind of LoRA that this merge does not know"),
        ("base_model.model.lm_head.modules_to_save", Reason.UNSUPPORTED_ADAPTER, "is named as an unfinished"),
        (
            "base_model.model.lm_head.original_module.weight",
            Reason.UNSUPPORTED_ADAPTER,
            "is the base's own, without the",
        ),
        ("base_model.model.a.token_adapter.b", Reason.UNSUPPORTED_ADAPTER, "is not what PEFT saves of trained token"),
        ("base_model.model.score.weight", Reason.UNSUPPORTED_ADAPTER, "is the head of a classifier, which s3://models"),
        ("base_model.model.v_head.weight", Reason.ADAPTER_MISMATCH, 'replaces "v_head.weight", which s3://models/base'),
        ("base_model.model.lm_head.weight", Reason.ADAPTER_MISMATCH, "of shape (2,) needs (2, 8) to fit"),
        ("lora_unet_down.lora_up.weight", Reason.UNSUPPORTED_ADAPTER, "is named as LoRA of image models is (kohya"),
        ("model.layers.0.self_attn.q_proj.lora_a", Reason.UNSUPPORTED_ADAPTER, "is named as MLX names LoRA: fuse it"),
        ("q_proj.lora_left", Reason.ADAPTER_MISMATCH, "is not named as PEFT names LoRA weights"),
    ],
)
def test_a_tensor_that_would_be_dropped_is_refused_by_name(name: str, reason: Reason, sentence: str) -> None:
    found, message = refusal(shapes=ADAPTER_SHAPES | {name: ("F32", (2,))})
    assert found is reason
    assert f'{FILE} tensor "{name}" {sentence}' in message


def test_what_the_arithmetic_does_not_cover_is_refused() -> None:
    conv: dict[str, Any] = {"base": BASE_SHAPES | {f"{Q_PROJ}.weight": ("BF16", (8, 8, 1, 1))}}
    assert "only Linear, Conv1D and Embedding layers, with two dimensions, are supported" in refusal(**conv)[1]
    fp8: dict[str, Any] = {"base": BASE_SHAPES | {f"{Q_PROJ}.weight": ("F8_E4M3", (8, 8))}}
    reason, message = refusal(**fp8)
    assert reason is Reason.UNSUPPORTED_BASE
    assert f'model.safetensors tensor "{Q_PROJ}.weight" is F8_E4M3: name a base in F32, F16, BF16' in message
    assert "is F64: save the adapter as" in refusal(shapes=ADAPTER_SHAPES | {A: ("F64", (2, 8))})[1]


def test_a_tied_output_layer_is_adapted_through_its_embedding() -> None:
    head: Shapes = {
        "base_model.model.lm_head.lora_A.weight": ("F32", (2, 8)),
        "base_model.model.lm_head.lora_B.weight": ("F32", (32, 2)),
    }
    tied = {name: shape for name, shape in BASE_SHAPES.items() if name != "lm_head.weight"}
    assert [update.weight for update in fit(shapes=head)] == ["lm_head.weight"]
    assert [update.weight for update in fit(shapes=head, base=tied, tied=True)] == ["model.embed_tokens.weight"]
    assert 'adapts "lm_head.weight", which s3://models/base does not have' in refusal(shapes=head, base=tied)[1]


@pytest.mark.parametrize(
    "saved",
    [("",), (".modules_to_save",), (".modules_to_save.default",), (".modules_to_save.mine",), ("", ".modules_to_save")],
)
@pytest.mark.parametrize("original", [(), (".original_module",)])
def test_a_module_that_was_trained_whole_is_found_under_each_name_that_peft_has_for_it(
    saved: tuple[str, ...], original: tuple[str, ...]
) -> None:
    head: Shapes = {f"base_model.model.lm_head{copy}.weight": ("BF16", (32, 8)) for copy in (*original, *saved)}
    _, update = sorted(
        fit(shapes=ADAPTER_SHAPES | head, modules_to_save=["lm_head"]), key=lambda found: -len(found.weight)
    )
    assert (update.weight, update.in_module) == ("lm_head.weight", True)
    assert isinstance(update.change, Replace)
    assert update.change.tensor.name == f"base_model.model.lm_head{saved[0]}.weight"


@pytest.mark.parametrize(
    ("parts", "config", "sentence"),
    [
        ({"lora_magnitude_vector": (8,)}, {}, "but use_dora is not set in adapter_config.json"),
        ({}, {"use_dora": True}, "holds none of the tensors that use_dora in adapter_config.json promises"),
        ({"lora_magnitude_vector": (4,)}, {"use_dora": True}, "of shape (4,) needs (8,) to fit"),
        ({"lora_B.bias": (8,)}, {}, "but lora_bias is not set in adapter_config.json"),
        ({"lora_B.bias": (8,)}, {"lora_bias": True}, f'adds to the bias "{Q_PROJ}.bias", which s3://models/base does'),
        ({}, {"modules_to_save": ["lm_head"]}, "holds none of the tensors that modules_to_save in adapter_config.json"),
        ({}, {"trainable_token_indices": [1]}, "holds none of the tensors that trainable_token_indices in"),
        (
            {"token_adapter.trainable_tokens_delta": (2, 8)},
            {"trainable_token_indices": [1]},
            "of shape (2, 8) needs (1, 8) to fit",
        ),
        (
            {"token_adapter.trainable_tokens_delta": (0, 8)},
            {"trainable_token_indices": []},
            "has no rows, as trainable_token_indices in adapter_config.json lists no tokens",
        ),
    ],
)
def test_what_the_config_says_and_the_file_holds_must_agree(
    parts: dict[str, tuple[int, ...]], config: dict[str, Any], sentence: str
) -> None:
    shapes = ADAPTER_SHAPES | {f"{PREFIX}.{part}": ("F32", shape) for part, shape in parts.items()}
    assert sentence in refusal(shapes=shapes, **config)[1]


def test_names_that_a_vision_model_has_in_memory_mean_those_on_disk() -> None:
    disk: Shapes = {f"language_model.{name}": shape for name, shape in BASE_SHAPES.items()}
    memory: Shapes = {
        name.replace("base_model.model.model.", "base_model.model.model.language_model."): shape
        for name, shape in ADAPTER_SHAPES.items()
    }
    llava: dict[str, Any] = {"model_type": "llava", "architecture": "LlavaForConditionalGeneration"}
    assert [update.weight for update in fit(shapes=memory, base=disk, **llava)] == [f"language_model.{Q_PROJ}.weight"]
    assert [update.weight for update in fit(shapes=memory)] == [f"{Q_PROJ}.weight"]
    in_memory = "model.language_model.layers.0.self_attn.q_proj.weight"
    reason, message = refusal(shapes=memory, base=disk | {in_memory: BASE_SHAPES[f"{Q_PROJ}.weight"]}, **llava)
    assert reason is Reason.UNSUPPORTED_ADAPTER
    assert message.endswith(
        f'adapts "{in_memory}", which "language_model.{Q_PROJ}.weight" and "{in_memory}" of s3://models/base are both '
        "in memory: name a base that has one of them"
    )


def test_a_layer_that_is_cut_out_of_a_stored_tensor_is_refused_by_the_name_of_both() -> None:
    adapter: Shapes = {
        "base_model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", (2, 8)),
        "base_model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", (8, 2)),
    }
    fused: Shapes = {"encoder.layers.0.attn.Wqkv.weight": ("BF16", (24, 8))}
    reason, message = refusal(shapes=adapter, base=fused, model_type="nomic_bert", architecture="NomicBertModel")
    assert reason is Reason.UNSUPPORTED_ADAPTER
    assert message == (
        f'{FILE} tensor "base_model.model.layers.0.self_attn.q_proj.lora_A.weight" adapts '
        '"layers.0.self_attn.q_proj.weight", which transformers makes of "encoder.layers.0.attn.Wqkv.weight" in '
        "s3://models/base/model.safetensors by Chunk: this merge cannot undo that; merge the adapter with PEFT"
    )


def test_an_adapter_without_tensors_is_refused() -> None:
    assert refusal(shapes={}) == (
        Reason.ADAPTER_MISMATCH,
        f"{FILE} holds no tensors: save the adapter again after training",
    )
