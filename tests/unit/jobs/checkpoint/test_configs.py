"""config.json and adapter_config.json."""

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.checkpoint.adapter_config import AdapterConfig, parse_adapter_config
from ftm_jobs.checkpoint.configs import parse_base_config, parse_json
from ftm_jobs.contract.config_fields import with_defaults
from ftm_jobs.errors import LONGEST_MESSAGE, InvalidInput, Reason
from tests.unit.jobs.files import ADAPTER_CONFIG, LLAMA_CONFIG

BASE = "s3://models/base/config.json"
ADAPTER = "s3://models/a/adapter_config.json"


def adapter(**changes: Any) -> AdapterConfig:
    return parse_adapter_config(ADAPTER, ADAPTER_CONFIG | changes)


def adapter_refusal(**changes: Any) -> tuple[Reason, str]:
    with pytest.raises(InvalidInput) as caught:
        adapter(**changes)
    assert caught.value.message.startswith(ADAPTER)
    return caught.value.reason, caught.value.message


def test_what_is_not_said_of_heads_follows_from_what_is() -> None:
    config = {name: value for name, value in LLAMA_CONFIG.items() if name != "num_key_value_heads"}
    parsed = parse_base_config(BASE, config)
    assert (parsed.key_value_heads, parsed.head_size) == (2, 4)


def test_the_language_model_of_a_vision_model_is_what_counts() -> None:
    text = {name: LLAMA_CONFIG[name] for name in LLAMA_CONFIG if name not in ("architectures", "model_type")}
    parsed = parse_base_config(BASE, {"architectures": ["X"], "model_type": "x_vl", "text_config": text})
    assert (parsed.architecture, parsed.hidden_size) == ("X", 8)


@pytest.mark.parametrize(
    ("family", "beside", "inside", "tied"),
    [
        ("gemma3", False, True, False),
        ("llava", False, True, True),
        ("llava", True, False, True),
        ("gemma3", None, True, True),
        ("llava", False, None, False),
        ("gemma3", None, None, None),
    ],
)
def test_a_vision_model_is_tied_as_it_says_or_in_some_families_as_its_language_model_says(
    family: str, beside: bool | None, inside: bool | None, tied: bool | None
) -> None:
    text = LLAMA_CONFIG | {"tie_word_embeddings": inside}
    config = {"architectures": ["X"], "model_type": family, "tie_word_embeddings": beside, "text_config": text}
    assert parse_base_config(BASE, config).tied_embeddings is tied


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"model_type": None}, Reason.INVALID_CONFIG, f"{BASE} names no model_type: copy it from the model's page"),
        ({"text_config": [1]}, Reason.INVALID_CONFIG, "has a text_config that is not an object"),
    ],
)
def test_a_base_config_that_cannot_be_used_is_refused_naming_the_field(
    changes: dict[str, Any], reason: Reason, sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_base_config(BASE, LLAMA_CONFIG | changes)
    assert caught.value.reason is reason
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "8"}, "hidden_size"),
        ({"num_attention_heads": 0}, "attention_heads"),
        ({"vocab_size": [[1]]}, "vocabulary_size"),
        ({"architectures": []}, "architecture"),
    ],
)
def test_what_a_merge_does_not_need_is_not_asked_for(changes: dict[str, Any], fact: str) -> None:
    assert getattr(parse_base_config(BASE, LLAMA_CONFIG), fact) is not None
    assert getattr(parse_base_config(BASE, LLAMA_CONFIG | changes), fact) is None


GEMMA_3: dict[str, Any] = {
    "model_type": "gemma3",
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024},
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}


def test_what_is_left_out_has_the_default_of_the_familys_class() -> None:
    parsed = parse_base_config(BASE, GEMMA_3)
    assert (parsed.layers, parsed.hidden_size, parsed.max_position_embeddings) == (34, 2560, 131072)
    assert (parsed.attention_heads, parsed.key_value_heads, parsed.head_size) == (8, 4, 256)
    assert parsed.vocabulary_size == 262208


def test_what_is_null_or_said_in_another_way_is_not_left_out() -> None:
    said = {"model_type": "mistral", "hidden_size": 8, "num_attention_heads": 2}
    assert with_defaults(said)["sliding_window"] == 4096
    assert with_defaults(said | {"sliding_window": None})["sliding_window"] is None
    assert parse_base_config(BASE, said).key_value_heads == 8
    assert parse_base_config(BASE, said | {"num_key_value_heads": None}).key_value_heads == 2
    assert parse_base_config(BASE, {"model_type": "bloom", "n_embed": 1024}).hidden_size == 1024
    assert parse_base_config(BASE, {"model_type": "gpt2", "hidden_size": 32}).hidden_size == 32


def test_fields_beside_an_object_that_is_not_there_are_the_language_models_where_its_class_takes_them() -> None:
    flat = parse_base_config(BASE, {"model_type": "qwen2_5_vl", "hidden_size": 2048, "num_attention_heads": 16})
    assert (flat.hidden_size, flat.layers, flat.vocabulary_size) == (2048, 80, 152064)
    assert parse_base_config(BASE, {"model_type": "mistral3"}).layers is None


def test_a_class_has_its_own_names_of_fields() -> None:
    t5 = {"model_type": "t5", "d_model": 768, "num_layers": 12, "num_decoder_layers": 10, "num_heads": 12, "d_kv": 64}
    parsed = parse_base_config(BASE, t5)
    assert (parsed.hidden_size, parsed.layers, parsed.attention_heads, parsed.head_size) == (768, 10, 12, 64)


def test_layers_that_are_listed_are_counted_and_of_widths_that_differ_the_largest_is_taken() -> None:
    listed = {"model_type": "nemotron_h", "layers_block_type": ["mamba", "attention", "moe"]}
    assert parse_base_config(BASE, listed).layers == 3
    assert parse_base_config(BASE, {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*"}).layers == 4
    assert parse_base_config(BASE, {"model_type": "x", "intermediate_size": [8, 32, 16]}).intermediate_size == 32


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("layer_replication", [[0, 1]], "it repeats the base's layers"),
        ("alora_invocation_tokens", [1], "serve it unmerged"),
        ("megatron_config", {"a": 1}, "it is for Megatron's parallel layers"),
        ("use_qalora", True, "which PEFT cannot merge either: serve it with PEFT on that base"),
        ("use_bdlora", {"nblocks": 2}, "which plain LoRA would scramble: merge it with PEFT (merge_and_unload)"),
        (
            "lora_B_layout",
            "grouped_by_expert",
            'lora_B_layout is "grouped_by_expert", in which PEFT\'s arithmetic would give',
        ),
        (
            "unsloth_fused_expert_lora",
            {"parameters": {"up_proj": {"lora_B_layout": "rank_major"}, "down_proj": {"lora_B_layout": "other"}}},
            'lora_B_layout is "other", in which',
        ),
        ("kasa_config", {"beta": 0.1}, "KaSA takes singular values away from the base's weights"),
        ("arrow_config", {"top_k": 3}, "Arrow chooses among several adapters for each token"),
        (
            "a_field_of_tomorrow",
            {"a": 1},
            "a field that this merge does not know and that may change the weights: merge the adapter with the program",
        ),
        ("peft_type", "IA3", "peft_type is 'IA3', and only LORA adapters can be merged here: merge it with PEFT"),
        ("peft_type", "PREFIX_TUNING", "changes no weight, so there is nothing to merge: serve it with PEFT"),
        ("peft_type", "ADAPTION_PROMPT", "PEFT cannot merge this kind either: serve it with PEFT"),
        ("peft_type", "OF_TOMORROW", "train a LoRA adapter with PEFT's LoraConfig"),
        ("peft_type", None, "it has no peft_type, so it is not as PEFT writes it"),
        ("init_lora_weights", "pissa_niter_4", 'init_lora_weights "pissa_niter_4" changed the base'),
        ("init_lora_weights", "olora", "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "of_tomorrow", "init_lora_weights 'of_tomorrow' is not known here"),
        ("init_lora_weights", {"a": 1}, "is not known here, and some ways to begin change the base"),
    ],
)
def test_an_adapter_feature_that_is_not_plain_lora_is_refused_by_name(field: str, value: Any, sentence: str) -> None:
    reason, message = adapter_refusal(**{field: value})
    assert reason is Reason.UNSUPPORTED_ADAPTER
    assert sentence in message


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("r", 0, "r is 0, not a positive whole number"),
        ("r", True, "r is true, not a positive whole number"),
        ("lora_alpha", math.inf, "lora_alpha is Infinity, not a finite number"),
        ("use_rslora", "yes", 'use_rslora is "yes", not true or false'),
        ("use_dora", 1, "use_dora is 1, not true or false"),
        ("bias", "some", 'bias is "some", not "none", "all" or "lora_only"'),
        ("modules_to_save", "lm_head", 'modules_to_save is "lm_head", not a list of names'),
        ("trainable_token_indices", [-1], "trainable_token_indices is [-1], not a list of token numbers"),
        ("trainable_token_indices", {"wte": [1, 1]}, "not a list in which each token is named once"),
        ("rank_pattern", {"q_proj": 0}, "rank_pattern is"),
        ("alpha_pattern", {"(": 1}, 'alpha_pattern is "(", not a regular expression'),
    ],
)
def test_an_adapter_config_that_makes_no_sense_is_refused_naming_the_field(
    field: str, value: Any, sentence: str
) -> None:
    reason, message = adapter_refusal(**{field: value})
    assert reason is Reason.INVALID_CONFIG
    assert sentence in message


def test_a_value_that_is_too_long_to_show_leaves_the_file_the_field_and_what_to_do() -> None:
    _, message = adapter_refusal(peft_type="x" * 100_000)
    assert len(message) == LONGEST_MESSAGE
    assert message.startswith(f"{ADAPTER}: peft_type is 'xxx")
    assert message.endswith(
        "xxx', and only LORA adapters can be merged here: train a LoRA adapter with PEFT's LoraConfig"
    )


def test_scaling_is_alpha_over_rank_or_over_its_root_times_the_sources_scale() -> None:
    assert adapter().scaling_of("model.q_proj") == 2.0
    assert adapter().scaling_of("model.q_proj", 0.5) == 1.0
    assert adapter(use_rslora=True).scaling_of("model.q_proj") == 4 / math.sqrt(2)


def test_the_first_pattern_that_matches_the_end_of_a_layers_name_wins() -> None:
    config = adapter(rank_pattern={"layers.1.q_proj": 8, "q_proj": 16}, alpha_pattern={r"layers\.\d+\.q_proj": 32})
    assert [config.rank_of(name) for name in ("m.layers.1.q_proj", "m.layers.0.q_proj", "m.xq_proj")] == [8, 16, 2]
    assert config.scaling_of("m.layers.1.q_proj") == 32 / 8


@given(
    st.dictionaries(st.sampled_from([*ADAPTER_CONFIG, "rank_pattern", "init_lora_weights", "x"]), st.from_type(object))
)
def test_no_adapter_config_crashes_the_parser(config: dict[str, Any]) -> None:
    with suppress(InvalidInput):
        parse_adapter_config(ADAPTER, config)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
def test_a_file_that_is_not_a_json_object_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^s3://models/base/config.json is (not|empty)") as caught:
        parse_json(BASE, text)
    assert caught.value.reason is Reason.INVALID_CONFIG


@pytest.mark.parametrize(
    ("fields", "heads"),
    [
        ({"multi_query": True, "new_decoder_architecture": False}, 1),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8}, 8),
        ({"multi_query": False}, 71),
    ],
)
def test_falcons_key_value_heads_are_read_as_its_config_says_them(fields: dict[str, object], heads: int) -> None:
    config = {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "vocab_size": 65024,
        **fields,
    }
    assert parse_base_config("config.json", config).key_value_heads == heads
