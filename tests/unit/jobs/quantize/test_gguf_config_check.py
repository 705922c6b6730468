"""A GGUF file that does not say what the model's config says is found out."""

from typing import Any

import pytest

from ftm_jobs.checkpoint.configs import parse_base_config
from ftm_jobs.quantize.gguf.config_check import disagreements
from ftm_jobs.quantize.gguf.file_types import Weight
from ftm_jobs.quantize.gguf.header import GgufHeader, GgufTensor, MetadataList
from tests.unit.jobs.files import LLAMA_CONFIG

CONFIG = LLAMA_CONFIG | {"rope_theta": 500000.0}
METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 8,
    "llama.attention.head_count": 2,
    "llama.context_length": 64,
    "llama.rope.freq_base": 500000.0,
    "tokenizer.ggml.tokens": MetadataList(32),
    "tokenizer.chat_template": "{{ messages }}",
}


def found(
    metadata: dict[str, Any] | None = None, config: dict[str, Any] | None = None, rows: int = 32, template: bool = True
) -> list[str]:
    tensors = {"token_embd.weight": GgufTensor(Weight("token_embd.weight", (rows, 8)), 0)}
    header = GgufHeader(
        {name: value for name, value in (METADATA | (metadata or {})).items() if value is not None}, tensors
    )
    return disagreements(header, parse_base_config("config.json", CONFIG | (config or {})), has_template=template)


def test_a_file_that_says_the_same_is_accepted() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("metadata", "config", "said"),
    [
        ({"llama.rope.freq_base": 10000.0}, {}, "its rope.freq_base is 10000, and the config's rope_theta is 500000"),
        ({"llama.rope.freq_base": None}, {}, "its rope.freq_base is 10000, and the config's rope_theta is 500000"),
        ({"llama.block_count": 2}, {}, "its block_count is 2, and the config's is 1"),
        ({"llama.context_length": 32}, {}, "its context_length is 32, and the config's is 64"),
        ({"tokenizer.chat_template": None}, {}, "it has no chat template, and the model has one"),
        ({"tokenizer.ggml.tokens": MetadataList(30)}, {}, "it has 30 tokens, and embeddings of 32"),
        (
            {},
            {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "yarn", "factor": 4.0}},
            "its rope.scaling.factor is not there, and the config's is 4",
        ),
        (
            {},
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "it has no rope_freqs.weight, and the config's rope_type is llama3",
        ),
        ({}, {"vocab_size": 33}, "it has embeddings of 32 tokens, and the config's vocab_size is 33"),
    ],
)
def test_what_it_says_otherwise_is_told(metadata: dict[str, Any], config: dict[str, Any], said: str) -> None:
    assert found(metadata, config) == [said]


def test_rope_settings_are_read_where_transformers_5_writes_them() -> None:
    config = {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    assert found(config=config) == ["its rope.freq_base is 500000, and the config's rope_theta is 1e+06"]


def test_what_a_config_leaves_to_its_class_is_not_compared() -> None:
    left_out = {"vocab_size", "max_position_embeddings", "num_hidden_layers"}
    config = {name: value for name, value in CONFIG.items() if name not in left_out}
    header = GgufHeader(METADATA, {"token_embd.weight": GgufTensor(Weight("token_embd.weight", (32, 8)), 0)})
    assert disagreements(header, parse_base_config("config.json", config), has_template=True) == []


def test_a_model_without_a_template_needs_none() -> None:
    assert found({"tokenizer.chat_template": None}, template=False) == []
