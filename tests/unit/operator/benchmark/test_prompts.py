"""Prompts are the text, the file's lines or random words that were asked for; others are refused in a sentence."""

from pathlib import Path

import pytest

from ftm_operator.benchmark.prompts import PromptSet, word_range
from ftm_operator.local.errors import WrongUse


def test_random_prompts_have_the_length_that_is_asked_for_and_the_same_seed_gives_the_same() -> None:
    prompts = PromptSet(200, 16, seed=1, words=(5, 9)).prompts()
    assert {len((each.text or "").split()) for each in prompts} == {5, 6, 7, 8, 9}
    assert prompts == PromptSet(200, 16, seed=1, words=(5, 9)).prompts()
    assert prompts != PromptSet(200, 16, seed=2, words=(5, 9)).prompts()


def test_a_files_lines_are_asked_in_turn_with_their_own_lengths(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    message = {"role": "user", "content": "Who?"}
    file.write_text(
        '{"prompt": "Where?", "max_tokens": 3, "id": 7}\n\n{"messages": [{"role":"user","content":"Who?"}]}\n'
    )
    first, second, third = PromptSet(3, 16, seed=0, file=file).prompts()
    assert (first.text, first.most_tokens, first.as_messages) == (
        "Where?",
        3,
        [{"role": "user", "content": "Where?"}],
    )
    assert (second.text, second.as_messages, second.most_tokens) == (None, [message], 16)
    assert third == first


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no prompts; write one JSON object a line"),
        ('{"prompt": "x"}\nWhere?', "line 2 is no prompt; write"),
        ('{"prompt": 3}', "line 1 is no prompt; write"),
        ('{"prompt": "x", "max_tokens": 0}', "line 1 is no prompt; write"),
        ('{"text": "x"}', "line 1 has neither or both of prompt and messages; write"),
    ],
)
def test_a_file_of_no_prompts_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(WrongUse, match=sentence):
        PromptSet(1, 16, 0, file=file).prompts()
    with pytest.raises(WrongUse, match="No such file or directory; name a file"):
        PromptSet(1, 16, 0, file=tmp_path / "none").prompts()


def test_lengths_are_a_number_or_a_range() -> None:
    assert (word_range("128"), word_range("50-200")) == ((128, 128), (50, 200))
    for wrong in ("0", "9-5", "many", "3-", ""):
        with pytest.raises(WrongUse, match="is no length of prompts; write words as 128, or a range as 50-200"):
            word_range(wrong)
