"""The start of what serves is told by part: in the status, in one Event, and by one read of the engine's log."""

from datetime import datetime, timedelta

import pytest

from ftm_operator.api.v1alpha1 import Start
from ftm_operator.observe.start_time import LOG_IS_READ, said_of_start
from ftm_operator.planning.feedback.start_parts import StartParts
from ftm_operator.reconcile.engine_feedback import EngineMemory
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, resource
from tests.unit.operator.reconcile.engines import TOLD
from tests.unit.operator.scene import Scene, scene_of

PARTS = StartParts(load_seconds=12, compile_seconds=30, warm_up_seconds=9)
STARTED = "started in 84 s: fetch 31, load 12, compile 30, warm-up 9, the rest 2"


def moment(began: datetime, seconds: int) -> str:
    return (began + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_answers(scene: Scene, number: int = 1, *, ready_after: int = 84) -> None:
    """Has a pod of the present template answer, which was ready just now."""
    template = scene.get("Deployment")["spec"]["template"]
    began = scene.now - timedelta(seconds=ready_after)
    fetched = {"startedAt": moment(began, 2), "finishedAt": moment(began, 33), "exitCode": 0}
    status: Manifest = {
        "startTime": moment(began, 0),
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": moment(began, ready_after)}],
        "initContainerStatuses": [{"name": "fetch", "state": {"terminated": fetched}}],
        "containerStatuses": [{"name": "vllm", "ready": True, "state": {"running": {}}}],
    }
    metadata = {"name": f"{NAME}-{number}", "namespace": NAMESPACE, **template["metadata"]}
    scene.put({"kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status})


def served() -> Scene:
    """Returns a model without autoscaling of which a first replica answers, 84 seconds after it was started."""
    scene = scene_of(resource())
    scene.reach("Deploying")
    pod_answers(scene)
    scene.answer()
    return scene


def test_every_model_tells_how_long_its_start_took_and_the_fetch_of_it() -> None:
    start = served().status()["start"]
    assert (start["seconds"], start["fetchSeconds"]) == (84, 31)
    assert "loadSeconds" not in start


def test_what_the_engine_logs_is_added_and_told_once() -> None:
    scene = served()
    scene.engine_logs(EngineMemory(measured=TOLD, parts=PARTS))
    start = scene.status()["start"]
    assert (start["loadSeconds"], start["compileSeconds"], start["warmUpSeconds"]) == (12, 30, 9)
    assert scene.events.count("Normal Started") == 1
    assert scene.awaited_log() is None, "the log is read no more"
    pod_answers(scene, 2, ready_after=20)
    scene.settle()
    assert scene.status()["start"] == start, "a second replica changes nothing"
    assert scene.events.count("Normal Started") == 1


def test_a_plan_that_is_proven_asks_for_the_seconds_of_a_start_that_was_an_hour_ago_no_more() -> None:
    scene = served()
    scene.engine_logs(EngineMemory(measured=TOLD))
    assert scene.awaited_log() is not None, "the log did not say it yet"
    scene.now += LOG_IS_READ
    assert scene.awaited_log() is None


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (Start(seconds=84, fetch_seconds=31, load_seconds=12, compile_seconds=30, warm_up_seconds=9), STARTED),
        (Start(seconds=84), "started in 84 s"),
        (Start(seconds=20, load_seconds=20), "started in 20 s: load 20"),
        (Start(seconds=20, fetch_seconds=0, load_seconds=21), "started in 20 s: fetch 0, load 21"),
    ],
)
def test_a_start_in_words(start: Start, words: str) -> None:
    assert said_of_start(start) == words
