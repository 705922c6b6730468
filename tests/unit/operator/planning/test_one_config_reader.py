"""An inspect Job and `ftm inspect --config` read the same facts from one config.json."""

from typing import Any

import pytest

from ftm_jobs.checkpoint.configs import parse_base_config
from ftm_jobs.checkpoint.sources import StoredBase
from ftm_jobs.checkpoint.weight_files import WeightFiles
from ftm_jobs.contract.config_fields import SPELLINGS
from ftm_jobs.contract.facts import BaseFacts
from ftm_jobs.steps.inspect import base_facts
from ftm_jobs.stores.file import FileStore
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.config_facts import facts_of_config
from tests.unit.jobs.files import Shapes, header
from tests.unit.operator.planning.catalogue import MODELS, NEWER, config

CHATGLM: dict[str, Any] = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "num_layers": 28,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "kv_channels": 160,
    "ffn_hidden_size": 13696,
    "padded_vocab_size": 65024,
    "seq_length": 8192,
    "add_qkv_bias": True,
    "add_bias_linear": False,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}
FROM_HEADERS = {"tensors", "weight_bytes", "parameters"}
"""Facts that the inspect Job takes from the weight files, which are not there for a config alone."""


def inspected(content: dict[str, Any], planned: BaseFacts) -> BaseFacts:
    """The facts of an inspect Job whose weight files hold one tensor of each kind that planning expects."""
    assert planned.tensors
    shapes: Shapes = {group.name.replace("*", "0"): (group.dtype, (1, 8)) for group in planned.tensors}
    weights = WeightFiles((header(shapes),))
    base = StoredBase(FileStore("/base"), planned.digest, parse_base_config("config.json", content), weights, {})
    return base_facts(base).model_copy(update={"uri": planned.uri})


@pytest.mark.parametrize("name", [*MODELS, *NEWER, "chatglm3-6b"])
def test_the_inspect_job_and_the_planner_read_the_same_facts(name: str) -> None:
    content = CHATGLM if name == "chatglm3-6b" else config(name)
    planned = facts_of_config("hf://models/x", "sha256:0", content)
    assert inspected(content, planned).model_dump(exclude=FROM_HEADERS) == planned.model_dump(exclude=FROM_HEADERS)


def test_a_config_that_spells_its_fields_as_chatglm_does_is_understood() -> None:
    planned = facts_of_config("hf://models/chatglm", "sha256:0", CHATGLM)
    facts = inspected(CHATGLM, planned)
    assert (facts.layers, facts.hidden_size, facts.intermediate_size) == (28, 4096, 13696)
    assert (facts.attention_heads, facts.key_value_heads, facts.head_size) == (32, 2, 160)
    assert (facts.vocabulary_size, facts.max_position_embeddings, facts.tied_embeddings) == (65024, 8192, False)
    model = architecture(facts)
    assert (model.layers, model.mlp_width, model.heads, model.key_value_heads) == (28, 13696, 32, 2)
    assert (model.head_size, model.vocabulary, model.max_context) == (160, 65024, 8192)


@pytest.mark.parametrize("fact", sorted(SPELLINGS))
def test_each_spelling_of_a_field_is_read_by_both(fact: str) -> None:
    usual = {**CHATGLM, **config("llama-3-8b"), "head_dim": 128}
    plain = {name: value for name, value in usual.items() if name not in SPELLINGS[fact]}
    changed: Any = {"dtype": "float32", "tied_embeddings": True}.get(fact, 7)
    for name in SPELLINGS[fact]:
        content = {**plain, name: changed}
        planned = facts_of_config("hf://models/x", "sha256:0", content)
        expected = "F32" if fact == "dtype" else changed
        assert getattr(planned, fact) == getattr(inspected(content, planned), fact) == expected


def test_the_language_models_own_fields_count_before_those_beside_it() -> None:
    text = {**config("llama-3-8b"), "num_attention_heads": None}
    content = {"architectures": ["X"], "model_type": "x_vl", "hidden_size": 8, "num_attention_heads": 16}
    planned = facts_of_config("hf://models/x", "sha256:0", content | {"text_config": text})
    assert (planned.hidden_size, planned.attention_heads) == (4096, 16)
    assert architecture(planned).heads == 16


def test_a_family_with_encoder_and_decoder_is_known_where_its_config_does_not_say_so() -> None:
    t5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "max_position_embeddings": 512}
    assert (facts_of_config("hf://models/t5", "sha256:0", t5).config or {})["is_encoder_decoder"] == "true"


def test_blocks_that_are_named_one_by_one_are_states_attention_or_neither() -> None:
    content = {**config("llama-3-8b"), "layers_block_type": ["mamba", "mlp", "attention", "moe", "hybrid"]}
    model = architecture(facts_of_config("hf://models/x", "sha256:0", content))
    assert [layer.kind for layer in model.attention] == ["state", "full", "full", "state"]


def test_short_convolutions_are_known_by_lfm2s_own_fields() -> None:
    content = {**config("lfm2-1.2b"), "block_ff_dim": 6656, "conv_L_cache": 4, "full_attn_idxs": [2, 5, 8, 10, 12, 14]}
    del content["layer_types"]
    model = architecture(facts_of_config("hf://models/x", "sha256:0", content))
    assert (model.mlp_width, model.state and model.state.kernel) == (6656, 4)
    assert [number for number, layer in enumerate(model.attention) if layer.kind == "full"] == [2, 5, 8, 10, 12, 14]
    widths = {group.shape[0] for group in model.tensors if group.name.endswith("up_proj.weight")}
    assert widths == {4608}


@pytest.mark.parametrize(
    ("name", "changed", "width"),
    [
        ("qwen3-next-80b-a3b", {}, 64),
        ("qwen3-next-80b-a3b", {"partial_rotary_factor": 0.5}, 128),
        ("qwen3-next-80b-a3b", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}}, 256),
        ("minimax-m2", {}, 64),
        ("glm-4.5-air", {}, 64),
        ("granite-4.0-h-1b", {}, 0),
        ("granite-4.0-h-1b", {"position_embedding_type": "rope"}, 128),
        ("llama-3-8b", {}, 128),
        ("llama-3-8b", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 128),
    ],
)
def test_the_numbers_of_a_head_that_are_turned(name: str, changed: dict[str, Any], width: int) -> None:
    planned = facts_of_config("hf://models/x", "sha256:0", {**config(name), **changed})
    model = architecture(planned)
    assert model.rotary.width_of(model.head_size) == width


@pytest.mark.parametrize("name", ["qwen3-next-80b-a3b", "minimax-m2", "granite-4.0-h-1b"])
def test_all_of_a_head_counts_where_an_older_inspection_left_out_how_much_is_turned(name: str) -> None:
    planned = facts_of_config("hf://models/x", "sha256:0", config(name))
    new = ("partial_rotary_factor", "rotary_dim", "position_embedding_type")
    kept = {field: value for field, value in (planned.config or {}).items() if field not in new}
    model = architecture(planned.model_copy(update={"config": kept}))
    assert model.rotary.width_of(model.head_size) == model.head_size
