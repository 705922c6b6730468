"""Greedy answers, token by token, with how sure the model was of each.

A model that fits memory answers whole, with a cache of keys and values. One that does not is read from disk once for
each token of all answers together, which is slow, so its answers are cut after a few.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from ftm_jobs.runtime.limits import memory_limit
from ftm_jobs.text.prompts import TokenizedQuestion
from ftm_jobs.verify.models.layerwise import LayerwiseModel, Tokens, run
from ftm_jobs.verify.tensors.sources import SharedTensors

MOST_TOKENS = 64
MOST_TOKENS_LAYERWISE = 8


@dataclass
class Answer:
    tokens: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    """Of each token: its probability less that of the second."""
    ended: bool = False

    def take(self, logits: torch.Tensor, ends: Collection[int]) -> int:
        """Add the likeliest token of (vocabulary,) logits."""
        best = torch.softmax(logits.double(), -1).topk(2)
        token = int(best.indices[0])
        self.tokens.append(token)
        self.margins.append(float(best.values[0] - best.values[1]))
        self.ended = token in ends
        return token


class TokenGenerator(Protocol):
    def start(self, tokens: Tokens) -> torch.Tensor: ...

    def go_on(self, token: int) -> torch.Tensor: ...


class WholeModel:
    """A model in memory, as `LayerwiseModel.whole` gives it."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        self._model = model
        self._device = device
        self._cache: Any = None

    def start(self, tokens: Tokens) -> torch.Tensor:
        self._cache = None
        return self._feed(list(tokens))

    def go_on(self, token: int) -> torch.Tensor:
        return self._feed([token])

    def _feed(self, tokens: list[int]) -> torch.Tensor:
        found = self._model(
            input_ids=torch.tensor([tokens], device=self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = found.past_key_values
        logits: torch.Tensor = found.logits[0, -1]
        return logits


def answer(
    speaker: TokenGenerator, asked: Sequence[TokenizedQuestion], ends: Collection[int], most: int = MOST_TOKENS
) -> list[Answer]:
    found = []
    for question in asked:
        given = Answer()
        token = given.take(speaker.start(question.tokens), ends)
        while not given.ended and len(given.tokens) < most:
            token = given.take(speaker.go_on(token), ends)
        found.append(given)
    return found


def answer_layerwise(
    model: LayerwiseModel, shared: SharedTensors, asked: Sequence[TokenizedQuestion], ends: Collection[int], most: int
) -> list[Answer]:
    """All answers together, the whole model being read once for each token."""
    found = [Answer() for _ in asked]
    for _ in range(most):
        open_ones = [place for place, given in enumerate(found) if not given.ended]
        if not open_ones:
            break
        texts = [(*asked[place].tokens, *found[place].tokens) for place in open_ones]
        run([model], texts, shared)
        with model.ready():
            for number, place in enumerate(open_ones):
                found[place].take(model.of(number, len(texts[number]) - 1, 1)[0], ends)
    return found


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its container if that is less."""
    return max(0, min(_available(), memory_limit() - _used()))


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return memory_limit()


def _used() -> int:
    """What this process holds, pages of files left out, since the kernel takes those back."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
