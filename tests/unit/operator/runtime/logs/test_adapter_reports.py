"""Agents' logs are read while there is something to learn from them, and not otherwise."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ftm_jobs.contract.run_time_adapters import AdapterState, HeldAdapters
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.logs.adapter_reports import POLL_SECONDS, STALE_SECONDS, AdapterReports
from tests.unit.operator.adapters import held, loaded

KEY = ("team-a", "shared")
WANTED = "0123456789abcdef"


def pod(name: str = "a", *, ready: bool = True, restarts: int = 0, state: str = "running") -> dict[str, Any]:
    agent = {"name": "adapters", "restartCount": 0, "state": {state: {}}}
    engine = {"name": "vllm", "restartCount": restarts, "state": {"running": {}}}
    conditions = [{"type": "Ready", "status": str(ready)}]
    labels = {"ftm.dev/name": "shared", "ftm.dev/step": "serve", "app.kubernetes.io/name": "vllm"}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "labels": labels},
        "spec": {},
        "status": {"initContainerStatuses": [agent], "containerStatuses": [engine], "conditions": conditions},
    }


def said(*adapters: Any, wanted: str = WANTED, snapshot: int = 1) -> str:
    lines = HeldAdapters(snapshot=snapshot, wanted=wanted, adapters=adapters).lines()
    return "\n".join(["fetched one", *lines])


@dataclass
class Logs:
    """Stands in for the cluster."""

    text: str | None = ""
    reads: list[tuple[str, int]] = field(default_factory=list)
    together: int = 0
    _open: int = 0

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int, most_bytes: int) -> str:
        assert (namespace, container) == ("team-a", "adapters")
        assert most_bytes >= lines * 16 * 1024
        self.reads.append((pod, lines))
        self._open += 1
        self.together = max(self.together, self._open)
        await asyncio.sleep(0)
        self._open -= 1
        if self.text is None:
            raise ApiError("GET", 0, "no answer")
        return self.text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda _: now[0])
    yield now
    monkeypatch.undo()


def reports(logs: Logs) -> AdapterReports:
    return AdapterReports(cast(Cluster, logs))


async def test_a_pod_that_has_answered_is_left_alone_until_it_is_stale(clock: list[float]) -> None:
    logs = Logs(said(loaded("billing")))
    reading = reports(logs)
    for _ in range(3):
        await reading.read(KEY, [pod()], WANTED, 1)
        assert reading.seconds_to_next(KEY, WANTED) is None
    assert [each.name for each in reading.held(KEY)["a"].adapters] == ["billing"]
    assert len(logs.reads) == 1
    clock[0] += STALE_SECONDS
    await reading.read(KEY, [pod()], WANTED, 1)
    assert len(logs.reads) == 2


@pytest.mark.parametrize(
    "text", [said(wanted="f" * 16), said(held("billing", AdapterState.LOADING)), "", None], ids=range(4)
)
async def test_one_that_has_not_is_read_ever_less_often(text: str | None, clock: list[float]) -> None:
    logs = Logs(text)
    reading = reports(logs)
    delays = []
    for _ in range(8):
        await reading.read(KEY, [pod()], WANTED, 1)
        await reading.read(KEY, [pod()], WANTED, 1)
        seconds = reading.seconds_to_next(KEY, WANTED)
        assert seconds is not None
        delays.append(seconds)
        clock[0] += seconds
    assert delays == [*POLL_SECONDS, 30.0, 30.0]
    assert len(logs.reads) == 8


async def test_other_adapters_have_it_read_at_once_and_the_answer_before_stays_until_then() -> None:
    logs = Logs(said(loaded("billing")))
    reading = reports(logs)
    await reading.read(KEY, [pod()], WANTED, 1)
    assert reading.seconds_to_next(KEY, "f" * 16) == 0.0
    logs.text = None
    await reading.read(KEY, [pod()], "f" * 16, 1)
    assert len(logs.reads) == 2
    assert "a" in reading.held(KEY)


async def test_what_a_container_said_before_it_was_started_again_counts_no_more() -> None:
    logs = Logs(said(loaded("billing")))
    reading = reports(logs)
    await reading.read(KEY, [pod()], WANTED, 1)
    logs.text = None
    await reading.read(KEY, [pod(restarts=1)], WANTED, 1)
    assert reading.held(KEY) == {}


async def test_a_pod_that_becomes_ready_is_read_again() -> None:
    logs = Logs(said(loaded("billing")))
    reading = reports(logs)
    await reading.read(KEY, [pod(ready=False)], WANTED, 1)
    await reading.read(KEY, [pod()], WANTED, 1)
    assert len(logs.reads) == 2


async def test_pods_that_are_gone_or_have_no_agent_are_forgotten() -> None:
    logs = Logs(said(loaded("billing")))
    reading = reports(logs)
    await reading.read(KEY, [pod("a"), pod("b")], WANTED, 1)
    assert logs.together == 2
    await reading.read(KEY, [pod("b"), pod("c", state="waiting")], WANTED, 1)
    assert reading.held(KEY).keys() == {"b"}
    await reading.read(KEY, [], WANTED, 1)
    assert (reading.held(KEY), reading.seconds_to_next(KEY, WANTED)) == ({}, None)


async def test_an_answer_in_many_parts_is_read_whole() -> None:
    everything = [loaded(f"adapter-{number}") for number in range(500)]
    logs = Logs(said(*everything))
    reading = reports(logs)
    await reading.read(KEY, [pod()], WANTED, 500)
    assert len(reading.held(KEY)["a"].adapters) == 500
    parts = len(HeldAdapters(snapshot=1, wanted=WANTED, adapters=tuple(everything)).lines())
    assert logs.reads[0][1] >= 2 * parts


async def test_two_that_ask_at_once_have_a_log_read_once() -> None:
    logs = Logs(said(loaded("billing")))
    reading = reports(logs)
    assert not reading.is_known(KEY)
    await asyncio.gather(*(reading.read(KEY, [pod()], WANTED, 1) for _ in range(3)))
    assert (len(logs.reads), reading.is_known(KEY)) == (1, True)
    reading.forget(KEY)
    assert (reading.is_known(KEY), reading.held(KEY)) == (False, {})
