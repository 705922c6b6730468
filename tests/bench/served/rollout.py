"""Replaces an engine under load as a rolling update does, and counts the requests that fail.

A new engine becomes ready beside the old one, and answers too. Then the old one's preStop, the guard's own drain with
the seconds that pods have, and the end of its place in the Service begin at once; the Service is the slower of the two,
as on a node that hears late. Once the drain is over, the old engine is told to end. What stands in for the Service is
in service.py.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp

from ftm_jobs.contract.mounts import GUARD_MODULE
from ftm_operator.benchmark.figures import RequestTimes
from ftm_operator.benchmark.prompts import BenchmarkPrompt
from ftm_operator.benchmark.streaming import RequestSettings, send, session
from ftm_operator.engines.conventions import DRAIN_SECONDS, MOST_DRAIN_SECONDS
from tests.bench.served.engines import Engine, started
from tests.bench.served.service import ServiceStandIn

STREAMS = 4
SERVICE_LAG_SECONDS = 2.0
"""The time for which the Service still sends new connections to an engine that drains."""
WHOLE_ANSWERS = 2
"""Answers of each stream that are waited for before the next step."""


@dataclass(frozen=True)
class RolledOut:
    """A rollout under load."""

    requests: int
    failed: dict[str, int]
    """Requests that got no whole answer, by kind."""
    in_flight_at_first: int
    """Requests that the old engine was answering when its drain began."""
    in_flight_at_end: int
    """Those that the drain left to the engine's own shutdown."""
    drain_seconds: float
    answered_afterwards: int
    """Requests that were sent after the old engine had ended, and answered."""
    exit_code: int
    """That of the old engine."""

    @property
    def words(self) -> str:
        """Returns the rollout in a sentence."""
        failed = ", ".join(f"{number} {kind}" for kind, number in self.failed.items()) or "0"
        return (
            f"rollout: {self.requests} requests, {failed} failed; {self.in_flight_at_first} in flight when the drain "
            f"began, {self.in_flight_at_end} when it ended after {self.drain_seconds:.1f} s; "
            f"{self.answered_afterwards} answered afterwards; the old engine ended with exit code {self.exit_code}"
        )


@dataclass
class Load:
    """Streams that ask for one answer after the other, until they are stopped."""

    settings: RequestSettings
    model: str
    prompts: Sequence[BenchmarkPrompt]
    ended: list[RequestTimes] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    is_over: bool = False

    async def run(self) -> None:
        async with session(self.settings) as connections:
            await asyncio.gather(*(self._stream(connections, number) for number in range(STREAMS)))

    async def _stream(self, connections: aiohttp.ClientSession, number: int) -> None:
        for at in count(number, STREAMS):
            if self.is_over:
                return
            prompt = self.prompts[at % len(self.prompts)]
            self.ended.append(await send(connections, self.settings, self.model, prompt, self.began))

    async def answers(self, number: int) -> None:
        """Returns once each stream has had so many more answers, whole or not."""
        enough = len(self.ended) + number * STREAMS
        while len(self.ended) < enough:
            await asyncio.sleep(0.05)


async def roll_out(
    old: Engine, new: Engine, guard: Path, model: str, prompts: Sequence[BenchmarkPrompt], say: Callable[[str], None]
) -> RolledOut:
    """Replaces the old engine, which is ready, by the new one, which has not been started."""
    async with ServiceStandIn(old.port).serving() as service:
        load = Load(RequestSettings(service.url, ignore_eos=True), model, prompts)
        asking = asyncio.create_task(load.run())
        await load.answers(1)
        with started(new):
            seconds = await asyncio.to_thread(new.await_ready)
            service.endpoints.add(new.port)
            say(f"the new engine is ready after {seconds:.0f} s beside the old one under load")
            await load.answers(WHOLE_ANSWERS)
            draining = asyncio.create_task(drain(guard, old.port))
            await asyncio.sleep(SERVICE_LAG_SECONDS)
            service.endpoints.remove(old.port)
            drained = await draining
            code = await asyncio.to_thread(old.end)
            ended = time.perf_counter() - load.began
            await load.answers(WHOLE_ANSWERS)
            load.is_over = True
            await asking
        connections = service.connections
        say(f"connections: {connections[old.port]} to the old engine, {connections[new.port]} to the new")
    return rolled_out(load.ended, drained, ended, code)


async def drain(guard: Path, port: int) -> dict[str, float]:
    """Runs the preStop command of a pod, and returns what the guard says of the drain."""
    words = [str(guard / f"{GUARD_MODULE}.py"), str(port), str(DRAIN_SECONDS), str(MOST_DRAIN_SECONDS)]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    try:
        said: dict[str, float] = json.loads(out)
    except ValueError:
        raise SystemExit(f"bench: the drain failed: {out.decode()}") from None
    return said


def rolled_out(ended: Sequence[RequestTimes], drained: dict[str, float], end: float, exit_code: int) -> RolledOut:
    """Returns the rollout's figures; `end`: when the old engine had ended, in seconds of the load."""
    return RolledOut(
        requests=len(ended),
        failed=dict(Counter(each.error.kind for each in ended if each.error)),
        in_flight_at_first=int(drained["inFlightAtFirst"]),
        in_flight_at_end=int(drained["inFlight"]),
        drain_seconds=drained["seconds"],
        answered_afterwards=sum(each.error is None and each.started > end for each in ended),
        exit_code=exit_code,
    )
