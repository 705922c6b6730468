"""Who names a quantized base is told which 16-bit model to use instead."""

from typing import Any

import pytest

from ftm_jobs.checkpoint.quantized_base import original, refuse_quantized
from ftm_jobs.errors import InvalidInput, Reason

QUANTIZED = {"quantization_config": {"quant_method": "awq"}}


def card(front: str) -> str:
    return f"---\nlicense: apache-2.0\n{front}\ntags: [awq]\n---\n# A model\nbase_model: wrong/one\n"


@pytest.mark.parametrize(
    ("uri", "config", "text", "name"),
    [
        ("hf://TheBloke/Mistral-7B-v0.1-AWQ@0123", {}, "", "by its name hf://TheBloke/Mistral-7B-v0.1"),
        ("hf://unsloth/llama-3-8b-bnb-4bit", {}, "", "by its name hf://unsloth/llama-3-8b"),
        ("hf://unsloth/Qwen3-8B-unsloth-bnb-4bit", {}, "", "by its name hf://unsloth/Qwen3-8B"),
        ("hf://Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", {}, "", "by its name hf://Qwen/Qwen2.5-7B-Instruct"),
        ("hf://a/b-AWQ", {}, card("base_model: org/right"), "hf://org/right"),
        ("hf://a/b-AWQ", {}, card("base_model:\n- org/right\n- org/other"), "hf://org/right"),
        ("s3://bucket/base", {}, card('base_model: "org/right"'), "hf://org/right"),
        (
            "s3://bucket/base",
            {"_name_or_path": "unsloth/gemma-2-9b-bnb-4bit"},
            "",
            "by its name hf://unsloth/gemma-2-9b",
        ),
        ("s3://bucket/base", {"_name_or_path": "/data/base-awq"}, "", None),
        ("hf://a/b", {}, card("base_model: a/b"), None),
        ("hf://a/b", {}, "base_model: org/no-front-matter", None),
        ("hf://a/Llama-3-8B", {}, "", None),
    ],
)
def test_the_16_bit_model_is_the_cards_or_the_names(
    uri: str, config: dict[str, Any], text: str, name: str | None
) -> None:
    assert original(uri, config, text) == name


def test_the_refusal_names_the_file_the_method_and_the_model_to_use() -> None:
    with pytest.raises(InvalidInput) as caught:
        refuse_quantized("hf://a/b-AWQ@0/config.json", "hf://a/b-AWQ@0", QUANTIZED, card("base_model: org/right"))
    assert caught.value.reason is Reason.UNSUPPORTED_BASE
    assert caught.value.message == (
        "hf://a/b-AWQ@0/config.json says that the base is quantized (quantization_config.quant_method "
        '"awq"): use the 16-bit model it was made from, hf://org/right'
    )


def test_without_a_trace_of_it_the_refusal_asks_for_the_16_bit_model() -> None:
    with pytest.raises(InvalidInput, match="name the 16-bit model it was made from"):
        refuse_quantized("config.json", "s3://bucket/base", {"quantization_config": [1]}, "")


def test_a_base_that_is_not_quantized_is_not_refused() -> None:
    refuse_quantized("config.json", "hf://a/b-AWQ", {}, "")
