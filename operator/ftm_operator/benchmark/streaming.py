"""Sends one request to an OpenAI-compatible endpoint, streams its answer and notes when each chunk comes.

A request that fails is a result too: its error has a kind, so that errors can be counted.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import aiohttp

from ftm_operator.benchmark.figures import RequestError, RequestTimes
from ftm_operator.benchmark.prompts import BenchmarkPrompt
from ftm_operator.local.engine_client import SHOWN_CHARACTERS, authorization
from ftm_operator.local.stream_events import UNREADABLE, read_event

LINE_BYTES = 1 << 20
"""The longest line of a stream that is read."""


ABORTED = "abort"
"""vLLM's reason for the end of an answer that it gave up, as it does while it shuts down."""


@dataclass(frozen=True)
class RequestSettings:
    """The way that all requests of a benchmark are sent."""

    url: str
    """The endpoint's address, without /v1 behind it."""
    api_key: str | None = None
    completions: bool = False
    """True: texts go to /v1/completions as they are; False: to /v1/chat/completions as a user's messages."""
    ignore_eos: bool = False
    """True: each answer has as many tokens as it may have, where the engine knows `ignore_eos`."""
    timeout_seconds: float = 600.0

    @property
    def path(self) -> str:
        return f"{self.url}/v1/{'completions' if self.completions else 'chat/completions'}"

    def body(self, model: str, prompt: BenchmarkPrompt) -> dict[str, Any]:
        """Returns the request's JSON: greedy, streamed, with a count of its tokens at the end."""
        asked = {"prompt": prompt.text} if self.completions else {"messages": prompt.as_messages}
        return {
            "model": model,
            **asked,
            "max_tokens": prompt.most_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"ignore_eos": True} if self.ignore_eos else {}),
        }


class _BrokenStream(Exception):
    """An answer that began is no whole answer; the first argument is the kind of error."""


def session(settings: RequestSettings) -> aiohttp.ClientSession:
    """Returns connections to the endpoint: as many as there are requests at once, and without a proxy."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers=authorization(settings.api_key),
        timeout=aiohttp.ClientTimeout(total=settings.timeout_seconds),
        read_bufsize=LINE_BYTES,
    )


async def send(
    connections: aiohttp.ClientSession,
    settings: RequestSettings,
    model: str,
    prompt: BenchmarkPrompt,
    began: float,
) -> RequestTimes:
    """Returns what the request took, or why it failed; `began`: the benchmark's beginning by `time.perf_counter`."""
    sent = time.perf_counter()
    times = _StreamTimes(lambda: time.perf_counter() - sent)
    result = RequestTimes(model, sent - began)
    try:
        async with connections.post(settings.path, json=settings.body(model, prompt)) as response:
            if response.status != HTTPStatus.OK:
                said = (await response.text(errors="replace"))[:SHOWN_CHARACTERS]
                return replace(result, error=RequestError(f"Status{response.status}", _sentence(said)))
            async for line in response.content:
                times.add(read_event(line))
        times.check_end()
    except _BrokenStream as broken:
        return replace(result, chunks=tuple(times.chunks), error=RequestError(*map(str, broken.args)))
    except (aiohttp.ClientError, OSError, *UNREADABLE) as error:
        return replace(result, chunks=tuple(times.chunks), error=_error(error, settings))
    return replace(
        result,
        chunks=tuple(times.chunks),
        input_tokens=times.input_tokens,
        output_tokens=len(times.chunks) if times.output_tokens is None else times.output_tokens,
        is_counted=times.output_tokens is not None,
    )


class _StreamTimes:
    """Collects the times of an answer's chunks, and its usage.

    A first chunk that says only that the assistant speaks is none of them: some servers send it before they have
    computed anything.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._early: list[float] = []
        self._ended = False
        self.chunks: list[float] = []
        self.input_tokens = 0
        self.output_tokens: int | None = None

    def add(self, document: dict[str, Any] | None) -> None:
        """Takes what the next line of the stream holds, as `read_event` returns it. Raises _BrokenStream."""
        if document is None:
            return
        self._ended = self._ended or not document
        if error := document.get("error"):
            message = error.get("message") if isinstance(error, dict) else error
            raise _BrokenStream("ErrorInStream", _sentence(str(message)))
        if usage := document.get("usage"):
            self.input_tokens = usage.get("prompt_tokens") or 0
            self.output_tokens = usage.get("completion_tokens")
        if choices := document.get("choices"):
            self._add_chunk(choices[0])

    def _add_chunk(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason") == ABORTED:
            raise _BrokenStream("Aborted", "the engine ended the answer before it was whole")
        self._ended = self._ended or bool(choice.get("finish_reason"))
        if not self.chunks and _is_role_alone(choice):
            self._early.append(self._elapsed())
        else:
            self.chunks.append(self._elapsed())

    def check_end(self) -> None:
        """Raises _BrokenStream unless the answer has a chunk and its end."""
        self.chunks = self.chunks or self._early
        if not self._ended:
            raise _BrokenStream("Disconnected", "the stream ended before the answer did")
        if not self.chunks:
            raise _BrokenStream("NoToken", "the answer has no token")


def _is_role_alone(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return "role" in delta and not any(value for key, value in delta.items() if key != "role")


def _error(error: Exception, settings: RequestSettings) -> RequestError:
    match error:
        case aiohttp.ClientConnectorError():
            return RequestError("NotReached", _sentence(str(error)))
        case asyncio.TimeoutError():
            return RequestError("TimedOut", f"no whole answer in {settings.timeout_seconds:g} s")
        case ValueError() | AttributeError() | LookupError() | TypeError():
            return RequestError("NoEventStream", f"the endpoint's stream cannot be read: {_sentence(str(error))}")
        case _:
            return RequestError("Disconnected", _sentence(str(error)) or type(error).__name__)


def _sentence(text: str) -> str:
    return " ".join(text.split())
