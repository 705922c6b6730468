"""Sends a benchmark's requests: so many at once, or so many a second, after some that warm the engine up."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import aiohttp

from ftm_operator.benchmark.figures import Figures, RequestTimes
from ftm_operator.benchmark.prompts import BenchmarkPrompt
from ftm_operator.benchmark.streaming import RequestSettings, send, session
from ftm_operator.local.errors import LocalError

Progress = Callable[[Sequence[RequestTimes], int], None]
"""Is told of the requests that have ended, and how many are in flight."""


@dataclass(frozen=True)
class RequestLoad:
    """The requests' number and pace."""

    concurrency: int | None
    """The most requests at once; None: no limit."""
    rate: float | None = None
    """Requests per second, at the random times of a Poisson process; None: each as soon as `concurrency` lets it."""
    seed: int = 0


def arrivals(requests: int, rate: float | None, seed: int) -> list[float]:
    """Returns when each request is to be sent, in seconds.

    The gaps are exponentially distributed, and scaled so that the last request comes at requests / rate, as
    vllm/benchmarks/serve.py does in get_request.
    """
    if rate is None:
        return [0.0] * requests
    chooser = random.Random(seed)
    times = list(itertools.accumulate(chooser.expovariate(rate) for _ in range(requests)))
    return [at * (requests / rate) / times[-1] for at in times]


async def run(
    settings: RequestSettings,
    models: Sequence[str],
    warm_up: Sequence[BenchmarkPrompt],
    prompts: Sequence[BenchmarkPrompt],
    load: RequestLoad,
    progress: Progress,
) -> Figures:
    """Sends each prompt once, to the models in turn, and returns what that took, but for the prompts of `warm_up`.

    Raises LocalError when a request of the warm-up fails.
    """
    async with session(settings) as connections:
        if warm_up:
            unpaced = replace(load, rate=None)
            warmed = await _Run(connections, settings, unpaced, lambda *_: None).all(models, warm_up)
            _check(warmed, settings)
        return await _Run(connections, settings, load, progress).all(models, prompts)


def _check(warmed: Figures, settings: RequestSettings) -> None:
    for each in warmed.requests:
        if error := each.error:
            raise LocalError(f"{settings.path} gave no answer of {each.model}: {error.kind}: {error.message}")


class _Run:
    """One benchmark while it goes on."""

    def __init__(
        self, connections: aiohttp.ClientSession, settings: RequestSettings, load: RequestLoad, progress: Progress
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._load = load
        self._progress = progress
        self._places = asyncio.Semaphore(load.concurrency) if load.concurrency else None
        self._in_flight = 0
        self._ended: list[RequestTimes] = []

    async def all(self, models: Sequence[str], prompts: Sequence[BenchmarkPrompt]) -> Figures:
        times = arrivals(len(prompts), self._load.rate, self._load.seed)
        began = time.perf_counter()
        sent = [
            self._one(model, prompt, began, at)
            for model, prompt, at in zip(itertools.cycle(models), prompts, times, strict=False)
        ]
        requests = await asyncio.gather(*sent)
        return Figures(time.perf_counter() - began, tuple(requests))

    async def _one(self, model: str, prompt: BenchmarkPrompt, began: float, at: float) -> RequestTimes:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        arrived = time.perf_counter()
        if self._places:
            await self._places.acquire()
        self._in_flight += 1
        self._progress(self._ended, self._in_flight)
        try:
            result = await send(self._connections, self._settings, model, prompt, began)
        finally:
            self._in_flight -= 1
            if self._places:
                self._places.release()
        result = replace(result, queued=began + result.started - arrived)
        self._ended.append(result)
        self._progress(self._ended, self._in_flight)
        return result
