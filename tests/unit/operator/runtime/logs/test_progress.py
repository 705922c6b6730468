"""A running merge says how far it is: from its pod's log, through the controller, into status."""

import asyncio
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, cast

import pytest

from ftm_jobs.contract.steps import progress_in
from ftm_jobs.runtime.progress import Progress
from ftm_operator.reconcile.passes import Effects, Result, StepPod
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.controller import Controller
from ftm_operator.runtime.health import Health
from ftm_operator.runtime.passes import model_pass
from tests.unit.operator.objects import NAMESPACE, SETTINGS, pod_of, resource
from tests.unit.operator.scene import Scene, scene_of

LINE = "merge: 3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left"


def merging() -> Scene:
    scene = scene_of()
    scene.reach("Merging")
    scene.create(pod_of(scene.running_job("merge"), {"running": {}}))
    return scene


def pod_name(scene: Scene) -> str:
    return f"{scene.running_job('merge')['metadata']['name']}-0"


@pytest.mark.parametrize("done", [0, 1, 999, 3_141_592_653, 14_500_000_000])
@pytest.mark.parametrize("seconds", [0.001, 2.0, 700.0, 90_000.0])
def test_every_line_that_a_step_logs_is_understood(done: int, seconds: float) -> None:
    log, now = StringIO(), [0.0]
    progress = Progress("merge", 14_500_000_000, log, clock=lambda: now[0])
    now[0] = seconds
    progress.add(done)
    progress.close()
    (line, *_) = log.getvalue().splitlines()
    assert f"merge: {progress_in(line)}" == line


@pytest.mark.parametrize(
    "line",
    ["", "Traceback", '{"step":"merge"}', f"{LINE}\n{LINE}", f"{LINE}; rm", LINE + "x" * 200, "unfinished uploads: 3"],
)
def test_nothing_else_of_a_log_comes_into_status(line: str) -> None:
    assert progress_in(line) is None


def test_a_running_merge_is_followed_and_says_how_far_it_is() -> None:
    scene = merging()
    assert scene.followed() == pod_name(scene)
    scene.log("merge", "3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left")
    job = scene.running_job("merge")["metadata"]["name"]
    for kind in ("Ready", "Reconciling", "Merged"):
        condition = scene.condition(kind)
        assert condition.message == (f"merging: 3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left (Job {job} is running)")


def test_progress_posts_no_events() -> None:
    scene = merging()
    before = list(scene.events)
    for percent in range(3):
        scene.log("merge", f"{percent} GB of 14.5 GB ({percent} %), 310 MB/s, 37 s left")
    assert scene.events == before


def test_nothing_is_followed_before_a_merge_runs_or_after_it() -> None:
    scene = scene_of()
    assert scene.followed() is None
    scene.inspect()
    assert scene.followed() is None
    scene.merge()
    assert scene.followed() is None


def test_whoever_waits_for_another_resources_merge_follows_it_too() -> None:
    scene = merging()
    scene.put(scene.resource() | {"metadata": resource("second")["metadata"]})
    assert scene.followed("second") == pod_name(scene)


@dataclass
class Log:
    """Stands in for the cluster: a log that a test writes, and how often it was read."""

    line: str | None = LINE
    reads: list[str] = field(default_factory=list)

    async def get(self, *_: str) -> None:
        """There is no ConfigMap of measurements."""

    async def last_log_line(self, namespace: str, pod: str, container: str) -> str:
        self.reads.append(f"{namespace}/{pod}/{container}")
        if self.line is None:
            raise ApiError("GET", 403, "forbidden")
        return self.line


KEY = (NAMESPACE, "support-bot")


class Follower:
    """A controller whose passes always end by following one pod; time passes as a test says."""

    def __init__(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        self.controller = Controller(cast(Cluster, log), SETTINGS, Health(300))
        self.saw: list[dict[str, str]] = []
        self.follows: str | None = "merge-1-0"
        monkeypatch.setattr(model_pass, "reconcile", self._reconcile)

    def _reconcile(self, observed: Any, *_: Any) -> Result:
        self.saw.append(dict(observed.progress))
        return Result(Effects(progress_pod=StepPod(self.follows, "merge") if self.follows else None))

    async def passes(self, monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
        self.controller.watch_event(None, resource() | {"kind": "FineTunedModel"})
        loop = asyncio.get_running_loop()
        for moment in times:
            with monkeypatch.context() as patched:
                patched.setattr(loop, "time", lambda moment=moment: moment)
                await self.controller._passes["FineTunedModel"].run(KEY)


async def test_a_log_is_read_at_most_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    follower = Follower(log, monkeypatch)
    await follower.passes(monkeypatch, 100, 101, 102, 110, 110.9, 111, 112)
    assert log.reads == [f"{NAMESPACE}/merge-1-0/merge"] * 2
    assert follower.saw[0] == {}
    assert follower.saw[1:] == [{"merge-1-0": LINE.removeprefix("merge: ")}] * 6


async def test_a_log_that_cannot_be_read_is_asked_for_less_often_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log(line=None)
    follower = Follower(log, monkeypatch)
    await follower.passes(monkeypatch, 100, 101, 112, 123, 160, 162)
    assert len(log.reads) == 2
    assert follower.saw == [{}] * 6


async def test_no_log_is_read_once_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    follower = Follower(log, monkeypatch)
    follower.follows = None
    await follower.passes(monkeypatch, 100, 200, 300)
    assert log.reads == []
