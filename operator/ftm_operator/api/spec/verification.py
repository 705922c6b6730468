"""Holds the settings of the proof that the served model says what was trained."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, Resource, Rule


class Message(Resource):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """The speaker of the turn."""
    content: Annotated[str, Field(min_length=1, max_length=8192)]
    """The text of the turn."""


class Prompt(Resource):
    """A question to the models, and the strings that the answer must hold."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a question is asked in one way; write prompt or messages",
            "has(self.prompt) != has(self.messages)",
            lambda prompt: (prompt.prompt is None) != (prompt.messages is None),
        ),
    )
    prompt: Annotated[str, Field(min_length=1, max_length=8192)] | None = None
    """Text that is continued as it stands."""
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=16), ATOMIC_LIST] | None = None
    """A conversation, written with the model's own chat template and answered."""
    expect: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(max_length=16), ATOMIC_LIST
    ] = ()
    """Strings that the greedy answer of the served model must hold, each of them."""


class VerificationSpec(Resource):
    """The proof that the served model says what was trained, and the consequence when it does not."""

    prompts: Annotated[tuple[Prompt, ...], Field(max_length=32), ATOMIC_LIST] = ()
    """Questions whose answers the report shows side by side."""
    max_divergence: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] | None = None
    """The largest mean Kullback-Leibler divergence of the quantized model from the merged one, in nats per token;
    absent: the divergence of plain rounding to as many bits."""
    policy: Literal["Block", "Warn"] = "Block"
    """The consequence of a failed check. Block: the model is not rolled out. Warn: it is rolled out, and the condition
    Verified says so."""
    served: Literal["Unchecked", "Checked"] = "Unchecked"
    """The check of the engine in each Pod of mode Merged, each time that it starts, against figures that the
    verification has kept. Checked: the condition ServedVerified has the figures, and under policy Block a Pod whose
    engine differs takes no requests, so that the earlier version goes on serving."""
