"""Answers questions greedily, token by token, with how sure the model was of each.

A model that fits memory answers whole, with a cache of keys and values. One that does not is read from disk once for
each token of all answers together, which is slow, so its answers are cut after a few.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ftm_jobs.text.prompts import TokenizedQuestion
from ftm_jobs.verify.models.layerwise import LayerwiseModel, Tokens, run
from ftm_jobs.verify.tensors.sources import SharedTensors

MOST_TOKENS = 64
MOST_TOKENS_LAYERWISE = 8


@dataclass
class Answer:
    """The tokens of an answer, taken one by one."""

    tokens: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    """Probability of each token less that of the second likeliest."""
    ended: bool = False

    def take(self, logits: torch.Tensor, ends: Collection[int]) -> int:
        """Adds the likeliest token of (vocabulary,) logits, and returns it."""
        best = torch.softmax(logits.double(), -1).topk(2)
        token = int(best.indices[0])
        self.tokens.append(token)
        self.margins.append(float(best.values[0] - best.values[1]))
        self.ended = token in ends
        return token


class TokenGenerator(Protocol):
    """Gives logits (vocabulary,) of the next token, token by token."""

    def start(self, tokens: Tokens) -> torch.Tensor: ...

    def go_on(self, token: int) -> torch.Tensor: ...


class WholeModel:
    """Runs a model that is in memory, as `LayerwiseModel.whole` gives it."""

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
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[0, -1]
        return logits


def answer(
    speaker: TokenGenerator, asked: Sequence[TokenizedQuestion], ends: Collection[int], most: int = MOST_TOKENS
) -> list[Answer]:
    """Answers each question in its turn, up to a token of `ends` or `most` tokens."""
    answers = []
    for question in asked:
        given = Answer()
        token = given.take(speaker.start(question.tokens), ends)
        while not given.ended and len(given.tokens) < most:
            token = given.take(speaker.go_on(token), ends)
        answers.append(given)
    return answers


def answer_layerwise(
    model: LayerwiseModel, shared: SharedTensors, asked: Sequence[TokenizedQuestion], ends: Collection[int], most: int
) -> list[Answer]:
    """Answers all questions together: the whole model is read once for each token."""
    answers = [Answer() for _ in asked]
    for _ in range(most):
        unfinished = [place for place, given in enumerate(answers) if not given.ended]
        if not unfinished:
            break
        texts = [(*asked[place].tokens, *answers[place].tokens) for place in unfinished]
        run([model], texts, shared)
        with model.ready():
            for number, place in enumerate(unfinished):
                answers[place].take(model.of(number, len(texts[number]) - 1, 1)[0], ends)
    return answers
