"""Engines' logs and the measurements' ConfigMap are read and written seldom, and neither fails a pass."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from ftm_operator.api.v1alpha1 import Measured
from ftm_operator.planning.feedback.measurements import Measurement, written
from ftm_operator.planning.feedback.start_parts import StartParts
from ftm_operator.reconcile.engine_feedback import EngineLog, EngineMemory
from ftm_operator.resources.metadata import MANAGED_BY
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.logs.engine_logs import RETRY_SECONDS, TRIES, EngineLogs
from ftm_operator.runtime.measurement_store import MeasurementStore

KEY = ("team-a", "support-bot")
STARTED = EngineLog("support-bot-1", failed=False)
FAILED = EngineLog("support-bot-1", failed=True, previous=True)
LINE = "CPU KV cache size: 1,024 tokens, Maximum concurrency for 512 tokens per request: 2.00x"
LACK = "CUDA out of memory"
KEPT = Measurement("merge-1", "A10G", 1, 1, "vllm:1", 5, 4, at="2026-01-01T00:00:00+00:00")


@dataclass
class Api:
    """Stands in for the cluster."""

    log: str | None = LINE
    config_map: dict[str, Any] | None = None
    refuses: int = 0
    reads: list[str] = field(default_factory=list)
    applied: list[dict[str, Any]] = field(default_factory=list)

    async def log_beginning(self, namespace: str, pod: str, container: str) -> str:
        return self._read(f"{namespace}/{pod} {container}")

    async def log_end(self, namespace: str, pod: str, container: str, *, previous: bool) -> str:
        return self._read(f"{namespace}/{pod} {container} end{' of the last run' if previous else ''}")

    def _read(self, what: str) -> str:
        self.reads.append(what)
        if self.log is None:
            raise ApiError("GET", 0, "no answer")
        return self.log

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.reads.append(f"{kind} {namespace}/{name}")
        if self.refuses:
            raise ApiError("GET", self.refuses, "refused")
        return self.config_map

    async def apply(self, manifest: dict[str, Any]) -> None:
        self.applied.append(manifest)
        if self.refuses:
            raise ApiError("PATCH", self.refuses, "refused")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda _: now[0])
    yield now
    monkeypatch.undo()


def logs(api: Api) -> EngineLogs:
    return EngineLogs(cast(Cluster, api))


async def test_a_log_is_read_once_when_a_pass_asked_for_it() -> None:
    api = Api()
    listening = logs(api)
    await listening.read(KEY)
    assert listening.ask(KEY, STARTED) == 0.0
    await listening.read(KEY)
    assert listening.memory_of(KEY) == {
        STARTED: EngineMemory(measured=Measured(kv_cache_tokens=1024, max_concurrency=2.0))
    }
    for _ in range(3):
        assert listening.ask(KEY, STARTED) is None
        await listening.read(KEY)
    assert api.reads == ["team-a/support-bot-1 vllm"]


async def test_what_a_start_took_is_read_of_the_container_that_the_pass_names() -> None:
    api = Api("2026-11-29T08:11:01.120Z srv x: loading model 'm'\n2026-11-29T08:11:13.120Z srv x: model loaded\n")
    listening = logs(api)
    listening.ask(KEY, replace(STARTED, container="llama-server"))
    await listening.read(KEY)
    assert api.reads == ["team-a/support-bot-1 llama-server"]
    assert listening.memory_of(KEY) == {STARTED: EngineMemory(parts=StartParts(load_seconds=12))}


@pytest.mark.parametrize("log", [None, "", "Model loading took 1.0 GiB memory"])
async def test_a_log_that_says_nothing_is_tried_three_times_a_minute_apart(log: str | None, clock: list[float]) -> None:
    api = Api(log)
    listening = logs(api)
    listening.ask(KEY, STARTED)
    counted = []
    for _ in range(20):
        await listening.read(KEY)
        counted.append(len(api.reads))
        waits = listening.ask(KEY, STARTED)
        assert waits is None or waits <= RETRY_SECONDS
        clock[0] += RETRY_SECONDS / 2
    assert counted == [1, 1, 2, 2, *[TRIES] * 16]
    assert listening.ask(KEY, STARTED) is None
    assert listening.memory_of(KEY) == {}


async def test_of_a_failed_start_the_end_of_the_run_that_failed_is_read() -> None:
    api = Api(LACK)
    listening = logs(api)
    listening.ask(KEY, FAILED)
    await listening.read(KEY)
    assert api.reads == ["team-a/support-bot-1 vllm end of the last run"]
    memory = listening.memory_of(KEY)[replace(FAILED, previous=False)]
    assert memory.lack


async def test_what_no_pass_asks_for_any_more_is_forgotten() -> None:
    listening = logs(Api())
    listening.ask(KEY, STARTED)
    await listening.read(KEY)
    assert listening.ask(KEY, None) is None
    assert listening.memory_of(KEY) == {}


async def test_what_was_measured_is_read_once_and_written_in_full_when_it_is_new() -> None:
    api = Api(config_map={"data": written({KEPT.key: KEPT})})
    store = MeasurementStore(cast(Cluster, api))
    for _ in range(3):
        assert await store.load("team-a") == {KEPT.key: KEPT}
    assert api.reads == ["ConfigMap team-a/ftm-measurements"]
    other = replace(KEPT, tensor_parallel=2)
    await store.keep("team-a", [other])
    (written_map,) = api.applied
    assert set(written_map["data"]) == {KEPT.key, other.key}
    assert written_map["metadata"]["labels"][MANAGED_BY] == "ftm-operator"
    assert "ownerReferences" not in written_map["metadata"]


async def test_what_is_measured_again_is_not_written_again() -> None:
    api = Api(config_map={"data": written({KEPT.key: KEPT})})
    store = MeasurementStore(cast(Cluster, api))
    await store.load("team-a")
    await store.keep("team-a", [replace(KEPT, at="2027-01-01T00:00:00+00:00")])
    await store.keep("team-a", [])
    assert api.applied == []


async def test_an_operator_that_may_not_read_the_config_map_never_overwrites_it() -> None:
    api = Api(refuses=403)
    store = MeasurementStore(cast(Cluster, api))
    assert await store.load("team-a") == {}
    await store.keep("team-a", [KEPT])
    assert await store.load("team-a") == {KEPT.key: KEPT}
    assert api.applied == []


async def test_an_api_server_that_does_not_answer_is_asked_again_and_nothing_is_taken_for_empty() -> None:
    api = Api(refuses=500, config_map={"data": written({KEPT.key: KEPT})})
    store = MeasurementStore(cast(Cluster, api))
    with pytest.raises(ApiError):
        await store.load("team-a")
    api.refuses = 0
    assert await store.load("team-a") == {KEPT.key: KEPT}


async def test_a_write_that_fails_fails_no_pass_and_the_next_makes_up_for_it() -> None:
    api = Api()
    store = MeasurementStore(cast(Cluster, api))
    await store.load("team-a")
    api.refuses = 500
    await store.keep("team-a", [KEPT])
    api.refuses = 0
    other = replace(KEPT, tensor_parallel=2)
    await store.keep("team-a", [other])
    assert set(api.applied[-1]["data"]) == {KEPT.key, other.key}
