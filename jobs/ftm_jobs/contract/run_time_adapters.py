"""Adapters at run time: those that an engine is to hold, and those that it holds.

The operator writes the wanted ones into a ConfigMap that serving pods mount. The agent in each pod makes the engine
hold them, and says on its stdout what the engine holds: that is the only truth for status.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from ftm_jobs.contract.base import Contract

WANTED_FILE = "adapters.json"
"""The key of the ConfigMap that holds WantedAdapters as JSON."""
HELD_PART = 50
"""Adapters in one line of the agent's log: the kubelet cuts lines beyond 16 KiB."""


class WantedPrompt(Contract):
    """A question to an adapter before it is offered, and the strings that its answer must hold."""

    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    expect: tuple[str, ...] = ()


class WantedAdapter(Contract):
    """An adapter that an engine is to answer for."""

    name: str
    """The value of `model` in requests for it."""
    artifact: str
    """The URI of its artifact: an adapter's files as PEFT saves them, or as llama.cpp reads them."""
    digest: str
    """`sha256:…` of the artifact's manifest.json, to which it is held."""
    total_bytes: int
    """Bytes of all its files."""
    prompts: tuple[WantedPrompt, ...] = ()
    policy: Literal["Block", "Warn"] = "Block"
    """Block: it is not offered if it has no effect, or answers wrongly. Warn: it is, and the report says so."""

    @property
    def versioned_name(self) -> str:
        """Returns the name under which this version is proven before it gets the public one."""
        return versioned(self.name, self.digest)


def versioned(name: str, digest: str) -> str:
    """Returns the name of one version of an adapter."""
    return f"{name}-{digest.removeprefix('sha256:')[:8]}"


class WantedAdapters(Contract):
    """All adapters that the engines of one model are to hold."""

    model: str
    """The value of `model` in requests for the base alone."""
    base: str | None = None
    """The digest of the base that they were checked against; an engine of another base must not hold them."""
    adapters: tuple[WantedAdapter, ...] = ()


class AdapterState(StrEnum):
    """The ways in which an adapter can stand with one engine."""

    LOADING = "Loading"
    """It is being fetched, loaded or proven, or tried again soon; `message` says why it was not taken before."""
    LOADED = "Loaded"
    """The engine answers for it under its name."""
    FAILED = "Failed"
    """It is not tried again without a change; `message` is the engine's or the store's own sentence."""


class Effect(Contract):
    """The change of the base's next-token distribution by an adapter, as one engine measured it."""

    difference: float
    """Mean absolute difference of the log-probabilities of the likeliest tokens after fixed texts, in nats."""
    rounding: float
    """The same between measurements of the base in other batches, or the dtype's rounding if that is more: a smaller
    difference is none."""

    @property
    def is_seen(self) -> bool:
        return self.difference > self.rounding


class HeldAdapter(Contract):
    """An adapter as one engine holds it, or as it failed to."""

    name: str
    digest: str
    """The version that this is about."""
    state: AdapterState
    serving: str | None = None
    """The digest of the version that answers under the name now; the former one while another is being loaded."""
    reason: str | None = None
    """The reason in one CamelCase word, where it is not loaded."""
    message: str | None = None
    effect: Effect | None = None
    answers: tuple[str, ...] | None = None
    """The questions that were answered wrongly, as sentences; empty if all were answered as expected."""


class HeldAdapters(Contract):
    """Everything that one agent says at one time. It is written in parts, a line each."""

    snapshot: int
    """Grows with each; of several in a log, the last complete one counts."""
    part: int = 0
    parts: int = 1
    wanted: str
    """A hash of the WantedAdapters that this is an answer to, as `wanted_hash` makes it."""
    engine_ready: bool = True
    unloaded: int = 0
    """Adapters that were unloaded since the engine started; it may hold their memory still."""
    adapters: tuple[HeldAdapter, ...] = Field(default=())

    def lines(self) -> list[str]:
        """Returns the lines of the agent's log that say this."""
        chunks = [self.adapters[at : at + HELD_PART] for at in range(0, len(self.adapters), HELD_PART)] or [()]
        return [
            self.model_copy(update={"part": part, "parts": len(chunks), "adapters": chunk}).model_dump_json(
                by_alias=True, exclude_none=True
            )
            for part, chunk in enumerate(chunks)
        ]


def newest(lines: Iterable[str]) -> HeldAdapters | None:
    """Returns the last complete snapshot in an agent's log; None where there is none."""
    parts: dict[int, dict[int, HeldAdapters]] = {}
    for line in lines:
        if held := _read(line):
            parts.setdefault(held.snapshot, {})[held.part] = held
    for found in reversed(list(parts.values())):
        first = next(iter(found.values()))
        if len(found) == first.parts:
            ordered: Sequence[HeldAdapters] = [found[number] for number in sorted(found)]
            adapters = tuple(adapter for each in ordered for adapter in each.adapters)
            return first.model_copy(update={"part": 0, "parts": 1, "adapters": adapters})
    return None


def _read(line: str) -> HeldAdapters | None:
    if not line.startswith('{"snapshot"'):
        return None
    try:
        return HeldAdapters.model_validate_json(line)
    except ValueError:
        return None


def wanted_hash(text: str) -> str:
    """Returns sixteen hex digits over the text of the mounted file."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_text(wanted: WantedAdapters) -> str:
    """Returns the text of the ConfigMap's file; the same adapters give the same text."""
    content: dict[str, Any] = wanted.to_json()
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
