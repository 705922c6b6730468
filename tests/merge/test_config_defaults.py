"""The table of defaults is transformers' own, and a config.json that leaves fields out is read as transformers does."""

from typing import Any

import pytest
from transformers import AutoConfig

from ftm_jobs.contract.config import read_config
from tests.tables.config_defaults import PATH, generate

NAMES = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "attention_heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "vocabulary_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
}


def test_the_table_is_what_make_tables_writes() -> None:
    assert PATH.read_text("utf-8") == generate(), "transformers changed: run make tables"


@pytest.mark.parametrize(
    "content",
    [
        *({"model_type": name} for name in ("llama", "qwen3_moe", "gpt2", "bloom", "mamba", "t5", "bart", "whisper")),
        *({"model_type": name} for name in ("qwen2_vl", "falcon", "gpt_oss", "modernbert", "deepseek_v3")),
        *({"model_type": name, "text_config": {}} for name in ("gemma3", "llava", "paligemma", "mllama", "mistral3")),
        {"model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}},
        {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}, "vocab_size": 32000},
        {"model_type": "llava", "text_config": {"model_type": "qwen2", "num_attention_heads": 14}},
        {"model_type": "llama", "num_key_value_heads": None},
    ],
    ids=lambda content: " ".join([content["model_type"], *content.get("text_config", ())]),
)
def test_a_config_that_leaves_fields_out_is_read_as_transformers_reads_it(content: dict[str, Any]) -> None:
    ours = read_config(content)
    theirs = AutoConfig.for_model(**content).get_text_config(decoder=True)
    for fact, name in NAMES.items():
        if (value := getattr(theirs, name, None)) is not None:
            assert getattr(ours, fact) == value, fact
