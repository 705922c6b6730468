"""The reference that an engine is held against says nothing that changes with the day."""

import json
from typing import Any

import pytest

from ftm_jobs.contract.verification import ServedReference, question
from ftm_jobs.text.chat_template import ChatTemplate
from ftm_jobs.text.prompts import Question, TokenizedQuestion
from ftm_jobs.verify.measurements.reference import served_reference
from ftm_jobs.verify.models.answers import Answer

PLAIN = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
BY_FUNCTION = "{{ strftime_now('%d %b %Y') }} " + PLAIN
BY_NAME = (
    "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }} " + PLAIN
)
AT_ONCE = "{{ datetime | default('') }} " + PLAIN
ASKED = TokenizedQuestion(Question("Where?", (), ("here",)), (5, 6, 7))


class Bytes:
    """Stands for a tokenizer: each byte of a text is a token."""

    special: dict[str, int | None] = {"bos_token": None}  # noqa: RUF012 - as the real one has it
    adds_first = False

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    encode_text = encode

    def decode(self, tokens: list[int]) -> str:
        return bytes(tokens).decode()


def reference(template: str | None, *, by_llama_cpp: bool = False) -> ServedReference:
    tokenizer: Any = Bytes()
    written = ChatTemplate("a template", template, {}) if template else None
    asked = [(ASKED, Answer(list(b"it is here")))]
    return served_reference([], "transformers", tokenizer, written, asked, by_llama_cpp=by_llama_cpp)


def test_a_plain_template_is_compared_and_its_prompts_are_asked_as_messages() -> None:
    made = reference(PLAIN)
    assert len(made.conversations) == 4
    assert [question(answer) for answer in made.answers] == [{"messages": [{"role": "user", "content": "Where?"}]}]
    assert made.notes == ()


@pytest.mark.parametrize(
    ("template", "by_llama_cpp", "dated"),
    [
        (BY_FUNCTION, False, True),
        (BY_FUNCTION, True, True),
        (BY_NAME, True, True),
        (BY_NAME, False, False),
        (AT_ONCE, True, True),
        (AT_ONCE, False, False),
        (PLAIN + "{# an update_string #}", True, False),
    ],
)
def test_conversations_into_which_the_engine_writes_the_date_are_not_compared(
    template: str, by_llama_cpp: bool, dated: bool
) -> None:
    made = reference(template, by_llama_cpp=by_llama_cpp)
    assert (not made.conversations, bool(made.notes)) == (dated, dated)


def test_a_prompt_is_asked_with_the_date_that_the_verification_asked_it_with() -> None:
    made = ServedReference.model_validate_json(json.dumps(reference(BY_FUNCTION).to_json()))
    assert [question(answer) for answer in made.answers] == [{"prompt": [5, 6, 7]}]
    assert made.answers[0].expect == ("here",)


def test_a_model_without_a_template_is_asked_in_text() -> None:
    assert [question(answer) for answer in reference(None).answers] == [{"prompt": "Where?"}]
