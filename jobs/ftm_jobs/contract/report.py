"""Reports the end of a step, in its container's termination message."""

import base64
import json
import zlib
from bisect import bisect_right
from typing import Any

from pydantic import Field, model_validator

from ftm_jobs.contract.base import Contract, Notes
from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.steps import EXIT_CODES, ExitCode, Outcome, Step
from ftm_jobs.contract.verification import Verification

TERMINATION_MESSAGE_BYTES = 4096
"""Kubernetes keeps at most this much of a container's termination message."""


PACKED_FACTS = "factsPacked"
"""Facts as base64 of zlib of JSON: sixteen adapters do not fit a termination message otherwise."""


LARGEST_FACTS_BYTES = 1024 * 1024


class Report(Contract):
    """The end of a step: the last line of its stdout and its termination message."""

    step: Step
    outcome: Outcome
    reason: str = Field(min_length=1)
    """CamelCase; becomes the condition's reason and the Event's."""
    message: str
    """One sentence naming the file or field, the value and what to do."""
    facts: Facts | None = None
    artifact: Artifact | None = None
    notes: Notes = ()
    """Remarks on the result, for people; the manifest has all of them."""
    verification: Verification | None = None
    """The verify step's result; that step is Done whatever it finds."""
    reference: Artifact | None = None
    """The verify step's other artifact: what an engine that serves the model is held against."""
    image: str | None = None
    """The publish step's result, by its digest: registry/repository@sha256:…"""
    reused: bool = False
    """The artifact was complete before the step began."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.outcome]

    @model_validator(mode="before")
    @classmethod
    def _unpack_facts(cls, data: Any) -> Any:
        if not isinstance(data, dict) or PACKED_FACTS not in data:
            return data
        rest = {name: value for name, value in data.items() if name != PACKED_FACTS}
        try:
            packed = zlib.decompressobj().decompress(base64.b64decode(data[PACKED_FACTS]), LARGEST_FACTS_BYTES)
        except (zlib.error, TypeError) as error:
            raise ValueError(f"{PACKED_FACTS} is not zlib in base64") from error
        return {**rest, "facts": json.loads(packed)}

    def termination_message(self) -> str:
        """One line of JSON, at most TERMINATION_MESSAGE_BYTES, that `model_validate_json` reads.

        Facts that make it longer are packed, then notes are left out from the end, then the message is cut; never the
        JSON.
        """
        content = self.to_json()
        if len(_line(content)) > TERMINATION_MESSAGE_BYTES and self.facts:
            facts = zlib.compress(_line(content.pop("facts")).encode(), 9)
            content[PACKED_FACTS] = base64.b64encode(facts).decode()
        while len(_line(content)) > TERMINATION_MESSAGE_BYTES and content.get("notes"):
            content["notes"] = content["notes"][:-1]
        excess = len(_line(content)) - TERMINATION_MESSAGE_BYTES
        if excess > 0:
            room = len(_line(self.message)) - excess
            kept = (
                bisect_right(range(len(self.message)), room, key=lambda end: len(_line(self.message[:end] + "…"))) - 1
            )
            content["message"] = self.message[: max(0, kept)] + "…"
        return _line(content)


def _line(content: dict[str, Any] | str) -> str:
    return json.dumps(content, ensure_ascii=True, separators=(",", ":"))
