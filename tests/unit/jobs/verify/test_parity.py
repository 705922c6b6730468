"""Configs and tokenizers that lost something are told by name; those that did not are left alone."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ftm_jobs.verify.figures import config_parity, tokenizer_parity

ORIGINAL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "rope_parameters": {"rope_theta": 100000, "rope_type": "default"},
    "dtype": "bfloat16",
    "sliding_window": None,
}


def lost(made: dict[str, Any], original: dict[str, Any] = ORIGINAL) -> list[str]:
    return [str(each) for each in config_parity.differences(original, made)]


@pytest.mark.parametrize(
    "made",
    [
        ORIGINAL,
        ORIGINAL | {"quantization_config": {"bits": 4}, "dtype": "float16"},
        ORIGINAL | {"intermediate_size": 128},
        {name: value for name, value in ORIGINAL.items() if name != "rope_parameters"} | {"rope_theta": 100000},
        {name: value for name, value in ORIGINAL.items() if name != "sliding_window"} | {"attention_bias": False},
    ],
    ids=["same", "quantized", "padded", "rope as 4.x spells it", "defaults"],
)
def test_what_changes_no_arithmetic_may_differ(made: dict[str, Any]) -> None:
    assert lost(made) == []


def test_rope_settings_that_another_reader_would_not_find_are_told() -> None:
    both = ORIGINAL | {"rope_theta": 10000.0}
    assert lost(both) == ["config.json rope_theta and rope_scaling rope_theta: 100000 became 10000.0"]
    none = {name: value for name, value in ORIGINAL.items() if name != "rope_parameters"}
    assert lost(none) == ['config.json rope settings: {"rope_theta": 100000} became lost']
    scaled = {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    assert lost({"rope_theta": 500000.0}, scaled) == [
        'config.json rope_theta and rope_scaling rope_type: "llama3" became lost',
        "config.json rope_theta and rope_scaling factor: 8.0 became lost",
    ]


def test_other_fields_are_told_with_both_values() -> None:
    assert lost(ORIGINAL | {"hidden_size": 32}) == ["config.json hidden_size: 64 became 32"]
    assert lost(ORIGINAL | {"intermediate_size": 64}) == ["config.json intermediate_size: 96 became 64"]
    missing = {name: value for name, value in ORIGINAL.items() if name != "architectures"}
    assert lost(missing) == ['config.json architectures: ["LlamaForCausalLM"] became lost']
    inner = {"text_config": {"eos_token_id": 2}}
    assert lost({"text_config": {"eos_token_id": 3}}, inner) == ["config.json text_config eos_token_id: 2 became 3"]


@dataclass
class Letters:
    """Writes each character as its number, but for those that it knows otherwise."""

    known: dict[str, int] = field(default_factory=dict)
    special: dict[str, int | None] = field(default_factory=lambda: {"bos_token": 1, "eos_token": 2})
    adds_first: bool = False
    chat_template: str | None = "{{ messages }}"

    def encode(self, text: str) -> list[int]:
        return [self.known.get(character, ord(character)) for character in text]


def told(serving: Letters, *texts: str) -> list[str]:
    return [str(each) for each in tokenizer_parity.differences(Letters(), serving, texts, ["<e>"])]


def test_equal_tokenizers_do_not_differ() -> None:
    assert told(Letters(), *tokenizer_parity.TRICKY) == []


def test_each_way_in_which_tokenizers_differ_is_told() -> None:
    assert told(Letters(special={"bos_token": 1, "eos_token": 7})) == ["eos_token: 2 became 7"]
    assert told(Letters(adds_first=True)) == ["a text's first token is added: False became True"]
    assert told(Letters(chat_template=None)) == ["chat template: '{{ messages }}' became None"]
    assert told(Letters(chat_template="{{ messages }}\n")) == []
    assert told(Letters(known={"\t": 5}), "a\tb") == ["the tokens of 'a\\tb' from the 2. on: [9, 98] became [5, 98]"]


def test_special_tokens_are_written_alone_and_inside_a_text() -> None:
    assert len(told(Letters(known={"<": 5}))) == 2
