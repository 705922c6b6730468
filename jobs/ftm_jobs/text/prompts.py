"""Reads and tokenizes the texts that models are measured on: hold-out, and the user's own questions.

A file of questions is JSON lines, or one JSON list, of {"prompt": "…"} or {"messages": […]}, each with an optional
"expect", a list of texts that a right answer contains. A prompt is asked as a user's message where the model has a
chat template, since that is how it will be asked. Texts become tokens here, cut to a bounded number of them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ftm_jobs.contract.verification import HELD_OUT_TOKENS
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.text.calibration import CalibrationText, ChatMessage
from ftm_jobs.text.chat_template import ChatTemplate, render
from ftm_jobs.text.tokenizer import TextTokenizer

TOKENS_PER_TEXT = 256
LARGEST_BYTES = 4 * 1024 * 1024
FORM = '{"prompt": "…", "expect": ["…"]}'


@dataclass(frozen=True)
class Question:
    prompt: str
    """The question as a person reads it."""
    messages: tuple[ChatMessage, ...] = ()
    """The conversation, where there is one."""
    expect: tuple[str, ...] = ()

    def as_messages(self) -> tuple[ChatMessage, ...]:
        """Returns the question as it is asked of a model with a chat template."""
        return self.messages or (ChatMessage("user", self.prompt),)


@dataclass(frozen=True)
class TokenizedText:
    """A piece of text as tokens."""

    name: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class TokenizedQuestion:
    question: Question
    tokens: tuple[int, ...]
    """The question as the model sees it, up to the answer's first token."""


def read_questions(asked: Path | str) -> tuple[tuple[Question, ...], str]:
    """Returns the questions of a file or of a JSON list as text, and the digest of the bytes.

    Raises InvalidInput (InvalidPrompts) that names the file and the place.
    """
    label = f"prompts {asked}" if isinstance(asked, Path) else "spec.verification.prompts"
    try:
        data = asked.read_bytes() if isinstance(asked, Path) else asked.encode()
    except OSError as error:
        raise InvalidInput(
            Reason.MISSING_FILE, f"{label} cannot be read: {error.strerror}; correct --prompts"
        ) from error
    if len(data) > LARGEST_BYTES:
        _refuse(label, f"has {len(data)} bytes, more than {LARGEST_BYTES}")
    try:
        entries = _entries(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            Reason.INVALID_PROMPTS, f"{label} is not JSON in UTF-8 ({error}): write lines like {FORM}"
        ) from error
    questions = tuple(_question(f"{label} entry {number}", entry) for number, entry in enumerate(entries, 1))
    return questions, f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entries(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        entries: list[Any] = json.loads(text)
        return entries
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _question(label: str, entry: Any) -> Question:
    if not isinstance(entry, dict) or ("prompt" in entry) == ("messages" in entry):
        _refuse(label, f"has not exactly one of prompt and messages: write {FORM}")
    expect = entry.get("expect") or []
    if isinstance(expect, str) or not all(isinstance(each, str) and each for each in expect):
        _refuse(label, "has an expect that is not a list of texts")
    if "prompt" in entry:
        if not isinstance(entry["prompt"], str) or not entry["prompt"].strip():
            _refuse(label, "has a prompt that is not a text")
        return Question(entry["prompt"], (), tuple(expect))
    messages = entry["messages"]
    if not isinstance(messages, list) or not messages or not all(_is_message(each) for each in messages):
        _refuse(label, 'has messages that are not a list of {"role": "…", "content": "…"}')
    told = tuple(ChatMessage(each["role"], each["content"]) for each in messages)
    return Question(told[-1].content, told, tuple(expect))


def _is_message(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("role", "content"))


def tokenize_questions(
    questions: Sequence[Question], tokenizer: TextTokenizer, template: ChatTemplate | None
) -> list[TokenizedQuestion]:
    tokenized = []
    for question in questions:
        messages = question.as_messages()
        if template:
            tokens = tokenizer.encode(template.render(messages, add_generation_prompt=True))
        else:
            tokens = tokenizer.encode_text("\n".join(message.content for message in messages))
        tokenized.append(TokenizedQuestion(question, tuple(tokens)))
    return tokenized


def held_out(
    calibration: CalibrationText, tokenizer: TextTokenizer, template: ChatTemplate | None, most: int = HELD_OUT_TOKENS
) -> list[TokenizedText]:
    """Cuts the hold-out into pieces of at most TOKENS_PER_TEXT tokens, one of every sample before a second of any."""
    samples = calibration.held_out
    pieces: list[tuple[int, TokenizedText]] = []
    for sample, text in zip(samples, render(samples, template), strict=True):
        tokens = tokenizer.encode_text(text)
        for turn, start in enumerate(range(0, len(tokens), TOKENS_PER_TEXT)):
            piece = tuple(tokens[start : start + TOKENS_PER_TEXT])
            if len(piece) > 1:
                pieces.append((turn, TokenizedText(sample.where, piece)))
    texts: list[TokenizedText] = []
    room = most
    for _, chosen in sorted(pieces, key=lambda each: each[0]):
        if room < 2:
            break
        texts.append(TokenizedText(chosen.name, chosen.tokens[:room]))
        room -= len(texts[-1].tokens)
    return texts


def _refuse(label: str, text: str) -> NoReturn:
    raise InvalidInput(Reason.INVALID_PROMPTS, f"{label} {text}")
