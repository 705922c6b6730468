"""The checks of a verification, the reference that it keeps, and the verdict of holding an engine against that.

The verify step writes a reference of the model to be served, as an artifact of its own. The `served` command asks the
engine in a pod the same questions, and says on its stdout how far the answers are from the reference's.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from ftm_jobs.contract.base import Contract, Notes
from ftm_jobs.contract.steps import Outcome

HELD_OUT_TOKENS = 1024
"""Tokens of text that a verification measures at most: every model runs all of them, on CPUs if need be."""


REFERENCE_FILE = "reference.json"


class Check(Contract):
    """One measured figure, with its bound."""

    name: str
    """MergeAgrees, AdapterEffect, QuantizedDivergence, …"""
    value: float
    """The figure; 1e308 where it is not finite."""
    bound: float
    """The bound that the figure is compared with: the largest that passes, or the smallest for AdapterEffect."""
    unit: str
    """nats/token, differences, answers."""
    passed: bool
    """True when the figure is within its bound."""


class Verification(Contract):
    """The verdict whether the model to be served says what was trained; verification.json in the artifact has more."""

    passed: bool
    """True when all checks passed."""
    checks: Annotated[tuple[Check, ...], Field(max_length=64)]
    """The measurements, each beside its bound."""


class ServingEngine(StrEnum):
    """The engines that can be asked, by the names that plans have for them."""

    VLLM = "vLLM"
    LLAMA_CPP = "LlamaCpp"


class ReferenceText(Contract):
    """A text of the verification with the log-probability of each of its tokens by the model to be served."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Those of each token but the first, after those before it, in nats; computed from the weights as stored."""
    rounding: tuple[float, ...]
    """The distances, for the same tokens, to the same model computed as engines round: in bfloat16, or with inputs of
    layers in 8 bits for GGUF. In nats."""
    effect: tuple[float, ...]
    """The log-probabilities of the same tokens less those by the base, in nats: what the adapters changed."""


class ReferenceSpelling(Contract):
    """A text and the tokens that the model's tokenizer makes of it."""

    text: str
    tokens: tuple[int, ...]


class ReferenceConversation(Contract):
    """A conversation and the tokens that the model's chat template and tokenizer make of it."""

    messages: tuple[dict[str, str], ...]
    tokens: tuple[int, ...]


class ReferenceAnswer(Contract):
    """A question, and the strings that the model's greedy answer held."""

    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    """The conversation, where the model has a chat template; the engine is asked by /v1/chat/completions then."""
    tokens: tuple[int, ...] | None = None
    """The question as the verification asked it, where the template writes the date: asked in the prompt's place."""
    expect: tuple[str, ...]
    most_tokens: int
    """Tokens after which the verification cut the answer."""


class ServedReference(Contract):
    """All that an engine is held against; reference.json of a reference's artifact."""

    schema_version: int = 1
    engine: str
    """Computed the log-probabilities."""
    texts: tuple[ReferenceText, ...]
    spellings: tuple[ReferenceSpelling, ...]
    conversations: tuple[ReferenceConversation, ...]
    """None where the model has no chat template, or one that writes the date."""
    answers: tuple[ReferenceAnswer, ...]
    notes: Notes = ()


class ServedVerification(Contract):
    """The verdict whether an engine says what was verified: a line of stdout for each time that it was measured."""

    kind: Literal["ServedVerification"] = "ServedVerification"
    outcome: Outcome = Outcome.DONE
    reason: str
    message: str
    reference: str
    """The digest of the reference's manifest."""
    passed: bool
    checks: tuple[Check, ...] = Field(default=(), max_length=16)
    notes: Notes = ()
    seconds: float = 0.0
    """The time that the measurement took."""

    def line(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


def newest_verdict(lines: Iterable[str]) -> ServedVerification | None:
    """Returns the last verdict in a log; None where there is none."""
    found: ServedVerification | None = None
    for line in lines:
        if line.startswith('{"kind":"ServedVerification"'):
            try:
                found = ServedVerification.model_validate_json(line)
            except ValueError:
                continue
    return found


def question(answer: ReferenceAnswer) -> dict[str, Any]:
    """Returns the part of a request that asks this: messages, or a prompt as text or tokens."""
    if answer.messages is not None:
        return {"messages": list(answer.messages)}
    return {"prompt": answer.prompt if answer.tokens is None else list(answer.tokens)}
