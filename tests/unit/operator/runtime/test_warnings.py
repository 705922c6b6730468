"""Events are listed for what waits alone, at once a few seconds later and then ever more rarely."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ftm_operator.observe.warnings import Subject
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.warnings import Warnings

KEY = ("team-a", "support-bot")
JOB = Subject("Job", "inspect-1", "1")


@dataclass
class Server:
    fails: bool = False
    asked: list[Any] = field(default_factory=list)

    async def events_of(self, *about: str) -> list[dict[str, Any]]:
        self.asked.append(about)
        if self.fails:
            raise ApiError("GET events", 403, "no")
        return [{"type": "Warning", "reason": "FailedCreate", "message": "no such account"}]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]

    class Loop:
        def time(self) -> float:
            return now[0]

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    return now


@pytest.mark.parametrize("fails", [False, True])
def test_an_objects_events_are_read_ever_more_rarely_while_it_waits(clock: list[float], *, fails: bool) -> None:
    server = Server(fails)
    warnings = Warnings(cast(Cluster, server))
    read_at = []
    for second in range(200):
        clock[0] = second
        before = len(server.asked)
        _run(warnings.read(KEY))
        read_at += [second] if len(server.asked) > before else []
        warnings.ask(KEY, JOB)
    assert read_at == [3, 9, 21, 45, 93, 153]
    assert server.asked[0] == (KEY[0], *JOB)
    assert warnings.by_subject(KEY) == ({} if fails else {JOB: "FailedCreate: no such account"})


def test_nothing_is_read_of_what_no_pass_asks_about_any_more(clock: list[float]) -> None:
    server = Server()
    warnings = Warnings(cast(Cluster, server))
    warnings.ask(KEY, JOB)
    assert warnings.ask(KEY, None) is None
    clock[0] = 100
    _run(warnings.read(KEY))
    assert not server.asked
    assert not warnings.by_subject(KEY)


def _run(coroutine: Any) -> None:
    """Runs what never waits, without a loop."""
    with pytest.raises(StopIteration):
        coroutine.send(None)
