"""The tokenizer and the template beside an adapter win over the base's, unless they contradict the vocabulary."""

import json
from typing import Any

import pytest

from ftm_jobs.companions.tokenizer_choice import TokenizerChoice, choose_tokenizer
from ftm_jobs.companions.tokenizer_files import TokenizerContent, is_tokenizer_file, read_tokenizer
from ftm_jobs.errors import InvalidInput, Reason

BASE, ADAPTER, OTHER = "s3://m/base", "s3://m/adapter", "s3://m/other"
VOCABULARY = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}
ROWS = 10


def content(
    uri: str,
    added: dict[str, int] | None = None,
    vocabulary: dict[str, int] | None = None,
    merges: Any = ("a b",),
    template: Any = "{{ messages }}",
    **config: Any,
) -> TokenizerContent:
    tokens = {"<s>": 0, "</s>": 1} | (added or {})
    whole = {
        "added_tokens": [{"content": token, "id": number} for token, number in tokens.items()],
        "model": {"type": "BPE", "vocab": vocabulary or VOCABULARY, "merges": list(merges)},
    }
    stated = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template} | config
    files = {"tokenizer.json": json.dumps(whole).encode(), "tokenizer_config.json": json.dumps(stated).encode()}
    return read_tokenizer(uri, files)


def chosen(*adapters: TokenizerContent | None, rows: int | None = ROWS) -> TokenizerChoice:
    return choose_tokenizer(content(BASE), adapters, rows)


@pytest.mark.parametrize(
    "adapter",
    [
        content(ADAPTER),
        content(ADAPTER, merges=[["a", "b"]]),
        content(ADAPTER, pad_token="</s>", padding_side="left"),
        content(ADAPTER, eos_token={"content": "</s>", "lstrip": False}, template="{{ messages }}\n"),
        content(ADAPTER, bos_token=None),
    ],
    ids=["the same", "merges as pairs", "padding", "a token as an object", "a token that is not said"],
)
def test_one_that_means_the_same_leaves_the_bases_files(adapter: TokenizerContent) -> None:
    choice = chosen(adapter)
    assert (choice.adapter, choice.templates, choice.notes) == (None, {"default": "{{ messages }}"}, ())
    assert choice.own == (False,)


@pytest.mark.parametrize(
    "adapter",
    [
        content(ADAPTER, added={"[turn]": 5}),
        content(ADAPTER, eos_token="ab"),
        content(ADAPTER, merges=["b a"]),
        content(ADAPTER, added={"ab": 4}),
        content(ADAPTER, vocabulary={"<s>": 0, "</s>": 1, "a": 2, "b": 3, "<tool>": 4}),
    ],
    ids=["a new token", "another end", "other merges", "a token made special", "a reserved number with a new name"],
)
def test_one_that_differs_wins(adapter: TokenizerContent) -> None:
    choice = chosen(None, adapter)
    assert (choice.adapter, choice.notes, choice.own) == (1, (), (False, True))


@pytest.mark.parametrize(
    ("adapter", "rows", "why"),
    [
        (
            content(ADAPTER, added={"[turn]": 10}),
            ROWS,
            "1 of its tokens ('[turn]') have no row in the embedding, which",
        ),
        (content(ADAPTER, added={"[turn]": 5}), None, "which has unknown rows"),
        (content(ADAPTER, vocabulary=VOCABULARY | {"a": 3, "b": 2}), ROWS, "2 of the base's tokens other numbers"),
        (
            content(ADAPTER, vocabulary={"<s>": 0, "</s>": 1, "a": 2, "b": 3}),
            ROWS,
            "lacks 1 of the base's tokens ('ab')",
        ),
        (read_tokenizer(ADAPTER, {"tokenizer_config.json": b'{"eos_token": "x"}'}), ROWS, "has no tokenizer.json or"),
    ],
)
def test_one_that_contradicts_the_vocabulary_does_not_win_and_a_note_says_why(
    adapter: TokenizerContent, rows: int | None, why: str
) -> None:
    choice = chosen(adapter, rows=rows)
    (note,) = choice.notes
    assert choice.adapter is None
    assert choice.templates == {"default": "{{ messages }}"}
    assert note.startswith(f"the tokenizer of {ADAPTER} is not taken, but the base's: ")
    assert why in note
    assert choice.own == (True,)


def test_a_template_alone_is_taken_and_named_ones_of_the_base_stay() -> None:
    base = content(BASE, template=[{"name": "default", "template": "x"}, {"name": "tool_use", "template": "y"}])
    choice = choose_tokenizer(base, [content(ADAPTER, template="z")], ROWS)
    assert (choice.adapter, choice.templates) == (None, {"default": "z", "tool_use": "y"})
    assert choice.own == (True,)
    assert choose_tokenizer(base, [content(ADAPTER, template=None)], ROWS).templates == base.templates


def test_of_several_adapters_the_largest_vocabulary_and_the_last_template_are_taken() -> None:
    small, large = content(ADAPTER, added={"[a]": 5}), content(OTHER, added={"[a]": 5, "[b]": 6}, template="other")
    assert chosen(small, large).adapter == 1
    reverse = chosen(large, small)
    assert (reverse.adapter, reverse.templates) == (0, {"default": "{{ messages }}"})
    assert reverse.notes == (f"the chat templates of {ADAPTER} and {OTHER} differ: that of {ADAPTER} is taken",)
    assert chosen(large, None, large).notes == ()


@pytest.mark.parametrize("added", [{"[b]": 5}, {"[a]": 6}])
def test_vocabularies_that_contradict_each_other_are_refused_by_name(added: dict[str, int]) -> None:
    with pytest.raises(InvalidInput) as caught:
        chosen(content(ADAPTER, added={"[a]": 5}), content(OTHER, added=added))
    assert caught.value.reason is Reason.ADAPTER_MISMATCH
    assert f"{ADAPTER} and {OTHER} contradict each other" in caught.value.message
    assert "'[a]'" in caught.value.message


def test_templates_are_found_where_transformers_finds_them() -> None:
    config = json.dumps({"chat_template": "field"}).encode()
    old = b'{"chat_template": "old"}'
    everything = {
        "chat_template.jinja": b"file",
        "additional_chat_templates/tool_use.jinja": b"tools",
        "tokenizer_config.json": config,
        "chat_template.json": old,
    }
    assert read_tokenizer(BASE, everything).templates == {"default": "file", "tool_use": "tools"}
    assert read_tokenizer(BASE, {"tokenizer_config.json": config, "chat_template.json": old}).templates == {
        "default": "field"
    }
    assert read_tokenizer(BASE, {"chat_template.json": old}).templates == {"default": "old"}


def test_tokens_are_read_of_every_kind_of_vocabulary() -> None:
    unigram = {
        "model": {"vocab": [["<unk>", 0.0], ["a", -1.5], [3], 4]},
        "added_tokens": [{"content": "[x]", "id": 9}, 3],
    }
    assert read_tokenizer(BASE, {"tokenizer.json": json.dumps(unigram).encode()}).tokens == {
        "<unk>": 0,
        "a": 1,
        "[x]": 9,
    }
    slow = {"vocab.json": b'{"a": 0}', "added_tokens.json": b'{"[x]": 1}'}
    assert read_tokenizer(BASE, slow).tokens == {"a": 0, "[x]": 1}
    decoder = {"added_tokens_decoder": {"2": {"content": "[y]"}, "z": {"content": "[z]"}, "3": 4}}
    words = read_tokenizer(BASE, {"vocab.txt": b"a\nb\n", "tokenizer_config.json": json.dumps(decoder).encode()})
    assert words.tokens == {"a": 0, "b": 1, "[y]": 2}
    assert words.added == frozenset(["[y]"])


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(InvalidInput, match=f"{ADAPTER}/tokenizer.json is not") as caught:
        read_tokenizer(ADAPTER, {"tokenizer.json": text})
    assert caught.value.reason is Reason.INVALID_CONFIG


@pytest.mark.parametrize("whole", [{"model": [1]}, {"added_tokens": {"a": 1}}, {"model": {"vocab": 3, "merges": [3]}}])
def test_parts_of_other_kinds_say_nothing(whole: dict[str, Any]) -> None:
    assert read_tokenizer(ADAPTER, {"tokenizer.json": json.dumps(whole).encode()}).tokens == {}


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.bpe", "spiece.model", "additional_chat_templates/a.jinja"])
def test_a_tokenizers_files_are_known_by_their_names(name: str) -> None:
    assert is_tokenizer_file(name)
    assert not is_tokenizer_file(f"1_Pooling/{name}")
    assert not is_tokenizer_file("config.json")
