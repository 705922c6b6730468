"""A user's questions are read, or refused with the place and what to write."""

import json
from pathlib import Path

import pytest

from ftm_jobs.errors import InvalidInput
from ftm_jobs.text.calibration import ChatMessage
from ftm_jobs.text.prompts import Question, read_questions


def read(tmp_path: Path, text: str | bytes) -> tuple[Question, ...]:
    path = tmp_path / "prompts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_questions(path)[0]


def test_lines_and_lists_are_the_same_questions(tmp_path: Path) -> None:
    entries = [
        {"prompt": "Who?", "expect": ["Ada"]},
        {"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "When?"}]},
    ]
    wanted = (
        Question("Who?", (), ("Ada",)),
        Question("When?", (ChatMessage("system", "Be brief"), ChatMessage("user", "When?"))),
    )
    assert read(tmp_path, json.dumps(entries)) == wanted
    assert read(tmp_path, "\n".join(map(json.dumps, entries)) + "\n\n") == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        (b"\xff", "is not JSON in UTF-8"),
        ('{"text": "a"}', "entry 1 has not exactly one of prompt and messages"),
        ('{"prompt": "a"}\n{"prompt": " "}', "entry 2 has a prompt that is not a text"),
        ('{"prompt": "a", "expect": "b"}', "entry 1 has an expect that is not a list of texts"),
        ('{"messages": [{"role": "user"}]}', "entry 1 has messages that are not a list"),
    ],
)
def test_what_is_no_question_is_refused_by_its_place(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        read(tmp_path, text)
    assert refused.value.reason == "InvalidPrompts"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_questions(tmp_path / "none")
