"""Proves that an adapter does something in an engine, and that it answers as it was trained to.

vLLM loads an adapter without a word of which it applies nothing (vllm#34186, vllm#34591). So the log-probabilities of
the likeliest tokens after fixed texts are measured, of the base and of the adapter. Those of the base differ between
batches by the rounding of its dtype; an adapter that differs from the base by no more than that has no effect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from ftm_jobs.contract.run_time_adapters import Effect, WantedAdapter, WantedPrompt
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.serve.trials import EffectProof

LEAST_ROUNDING = 2.0**-8
"""In nats: bfloat16's distance between neighbours where a token's log-probability is about 1."""
TEXTS = (
    "Dear customer,",
    "Dear customer, thank you for your question. Your order",
    "Dear customer, thank you for your question. Your order was sent on Monday, and it arrives",
    "Question: Who are you, and what can you do for me?\nAnswer:",
    "The three most important things to know are",
    "def total(prices):\n    return",
    "1, 2, 3, 5, 8,",
    "In the year",
)
"""Texts after which the next token is measured."""
FILLERS = ("The first page of the book says", "Yesterday")
"""Texts that make another batch of them."""
NextTokens = Mapping[str, float]
"""Log-probabilities of the likeliest next tokens, in nats, by token."""
_SHOWN_CHARACTERS = 120


class ProvingEngine(Protocol):
    """Measures and answers with a model by its name."""

    def next_tokens(self, model: str, texts: Sequence[str]) -> list[dict[str, float]]: ...

    def answer(self, model: str, prompt: WantedPrompt) -> str: ...


@dataclass(frozen=True)
class BaseMeasurement:
    """The likeliest next tokens of the base after each of TEXTS, measured in several batches."""

    measured: tuple[Sequence[NextTokens], ...]

    @property
    def rounding(self) -> float:
        """Returns the largest mean absolute difference between two of them, or the dtype's rounding, in nats."""
        return max(LEAST_ROUNDING, *(mean_difference(*pair) for pair in combinations(self.measured, 2)))

    def effect(self, adapter: Sequence[NextTokens]) -> Effect:
        """Returns the change from the nearest of them. Raises InvalidInput where the adapter gives no numbers."""
        nearest = min(mean_difference(base, adapter) for base in self.measured)
        if not math.isfinite(nearest):
            raise InvalidInput(
                Reason.ENGINE_REFUSED,
                "the engine computes no numbers with it: its weights are infinite, or too large for the base's dtype",
            )
        return Effect(difference=nearest, rounding=self.rounding)


def mean_difference(base: Sequence[NextTokens], other: Sequence[NextTokens]) -> float:
    """Returns the mean absolute difference in nats, over the base's likeliest tokens after each text.

    A token that is not among the other's likeliest counts as the least of those, so the mean is never too large.
    """
    differences = [
        abs(value - tokens.get(token, min(value, *tokens.values())))
        for likeliest, tokens in zip(base, other, strict=True)
        for token, value in likeliest.items()
    ]
    return sum(differences) / max(1, len(differences))


def measure_base(engine: ProvingEngine, model: str) -> BaseMeasurement:
    """Measures the base in three batches; the third finds in the prefix cache what the others left there."""
    batches = (TEXTS, (*FILLERS, *TEXTS), TEXTS)
    return BaseMeasurement(tuple(engine.next_tokens(model, batch)[-len(TEXTS) :] for batch in batches))


def prove(engine: ProvingEngine, base: BaseMeasurement, adapter: WantedAdapter, name: str) -> EffectProof:
    """Measures and asks what the engine holds under `name`. Raises StepError as the engine does."""
    effect = base.effect(engine.next_tokens(name, TEXTS))
    if not effect.is_seen:
        message = (
            f"it changes the base's log-probabilities by {effect.difference:.2g} nats on average, no more than "
            f"rounding does ({effect.rounding:.2g}): its weights may be zero, or of layers that the engine leaves out"
        )
        return EffectProof(effect, None, Reason.ADAPTER_HAS_NO_EFFECT, message)
    asked = [prompt for prompt in adapter.prompts if prompt.expect]
    if not asked:
        return EffectProof(effect)
    wrong = tuple(sentence for prompt in asked if (sentence := unexpected(prompt, engine.answer(name, prompt))))
    if wrong:
        message = f"{len(wrong)} of {len(asked)} questions were not answered as expected, first {wrong[0]}"
        return EffectProof(effect, wrong, Reason.ANSWER_UNEXPECTED, message)
    return EffectProof(effect, ())


def unexpected(prompt: WantedPrompt, answer: str) -> str | None:
    """Returns a sentence on an answer that lacks an expected text; None where it lacks none."""
    lacking = [text for text in prompt.expect if text.casefold() not in answer.casefold()]
    if not lacking:
        return None
    question = prompt.prompt or (prompt.messages[-1].get("content", "") if prompt.messages else "")
    said = " ".join(answer.split())
    return f'"{_shown(question)}" was answered "{_shown(said)}", without "{_shown(lacking[0])}"'


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
