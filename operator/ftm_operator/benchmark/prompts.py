"""Makes the prompts of a benchmark: one text, those of a file, or random words."""

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftm_operator.local.errors import WrongUse

_COMMON = """
able about after again air answer away back base before best better between book bring build call change city clear cold
come country day deep door down draw early earth east end enough even every eye face far farm field find fire first food
form four free front full game glass gold good great green ground group half hand hard head heart help high hold home
horse hour house idea keep kind king land large late learn left letter life light line list long look machine map market
measure mind money month morning move music name near new night north number old open order page paper part people place
plain plant play point power question quick rain read red rest right river road rock room round school sea second ship
short side simple size sleep small snow song sound south space star start stone story street strong sun table tail teach
test thing third time town train tree turn valley voice walk wall warm water week west wheel white wind winter wood word
"""
WORDS = tuple(_COMMON.split())
"""Common English words, nearly all of them one token."""


class RequestedPrompt(BaseModel):
    """A line of a file of prompts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = Field(default=None, min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)


@dataclass(frozen=True)
class BenchmarkPrompt:
    """A text, or messages of a chat, and the most tokens of its answer."""

    text: str | None
    messages: tuple[dict[str, Any], ...] | None
    most_tokens: int

    @property
    def as_messages(self) -> list[dict[str, Any]]:
        """Returns the messages; a text is one of the user's."""
        return list(self.messages or ({"role": "user", "content": self.text},))


@dataclass(frozen=True)
class PromptSet:
    """The choice of prompts; the first of `file`, `text` and `words` that is there counts."""

    requests: int
    most_tokens: int
    """The most tokens of an answer; a line of the file may say its own."""
    seed: int
    file: Path | None = None
    text: str | None = None
    words: tuple[int, int] = (128, 128)
    """The least and the most words of a prompt; each length between is as likely."""

    def prompts(self) -> list[BenchmarkPrompt]:
        """Returns a prompt for each request; those of a file in its order, and again from its beginning.

        Raises WrongUse naming the file and line.
        """
        if self.file:
            lines = [_prompt(each, self.most_tokens) for each in _read(self.file)]
            return list(itertools.islice(itertools.cycle(lines), self.requests))
        if self.text is not None:
            return [BenchmarkPrompt(self.text, None, self.most_tokens)] * self.requests
        chooser = random.Random(self.seed)
        return [BenchmarkPrompt(self._words(chooser), None, self.most_tokens) for _ in range(self.requests)]

    def _words(self, chooser: random.Random) -> str:
        return " ".join(chooser.choices(WORDS, k=chooser.randint(*self.words)))


def word_range(text: str) -> tuple[int, int]:
    """Reads `128` or `50-200`. Raises WrongUse."""
    least, dash, most = text.partition("-")
    try:
        found = int(least), int(most if dash else least)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1]:
        raise WrongUse(f"--words {text} is no length of prompts; write words as 128, or a range as 50-200")
    return found


def _prompt(line: RequestedPrompt, most_tokens: int) -> BenchmarkPrompt:
    messages = tuple(line.messages) if line.messages else None
    return BenchmarkPrompt(line.prompt, messages, line.max_tokens or most_tokens)


def _read(path: Path) -> Sequence[RequestedPrompt]:
    example = '{"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}'
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WrongUse(f"{path}: {error.strerror}; name a file with one JSON object a line: {example}") from None
    except UnicodeDecodeError:
        raise WrongUse(f"{path} is not UTF-8; name a file with one JSON object a line: {example}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            read = RequestedPrompt.model_validate(json.loads(line))
        except (ValidationError, ValueError, RecursionError):
            raise WrongUse(f"{path} line {number} is no prompt; write {example}") from None
        if (read.prompt is None) == (read.messages is None):
            raise WrongUse(f"{path} line {number} has neither or both of prompt and messages; write {example}")
        found.append(read)
    if not found:
        raise WrongUse(f"{path} holds no prompts; write one JSON object a line: {example}")
    return found
