"""A canary that fails is rolled back by itself, and is not tried again until somebody asks for it."""

from typing import Any

import pytest

from ftm_jobs.contract.verification import Check, ServedVerification
from ftm_operator.observe.canary.figures import CanaryFigures, VersionFigures
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest
from tests.unit.operator.reconcile.versions.canaries import (
    CANARY,
    NEW,
    annotate,
    arguments,
    canary_answers,
    canary_pod,
    change,
    gateway_follows,
    has_canary,
    keys,
    progress,
    served,
    sharing,
    started,
    versions,
    weights,
)
from tests.unit.operator.scene import Scene

ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "CUDA error: an illegal memory access"}}
LOOPS: Manifest = {"name": "vllm", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED}
PROMETHEUS = "http://prometheus:9090"
ANALYSIS = {"prometheus": PROMETHEUS, "minRequests": 20}


def rolled_back(scene: Scene, why: str) -> str:
    """Returns the key of the version that was rolled back, after a check of all that follows from it."""
    stalled = scene.stalled()
    assert stalled.reason == "RolledBack"
    assert why in stalled.message
    assert "the version before it serves" in stalled.message
    assert scene.condition("Available").status == "True"
    assert weights(scene) == [(NAME, None)]
    assert has_canary(scene), "its Pods stay until the Gateway has followed"
    (key,) = keys(scene, "RolledBack")
    gateway_follows(scene)
    scene.later(5)
    assert not has_canary(scene)
    assert NEW[0] not in arguments(scene)
    assert versions(scene) == [("Serving", 100), ("RolledBack", None)]
    assert len(scene.cache.keys("ControllerRevision")) == 1
    assert "canary" not in scene.status()
    scene.later(100_000)
    assert not has_canary(scene)
    assert not scene.once().actions
    assert scene.once().status is None
    assert scene.events[-1] == "Warning RolledBack"
    return key


def test_a_container_that_keeps_failing() -> None:
    scene = started()
    canary_answers(scene, 0)
    canary_pod(scene, {"containerStatuses": [LOOPS | {"restartCount": 1}]})
    assert progress(scene)["state"] == "Starting", "one failure may be chance"
    canary_pod(scene, {"containerStatuses": [LOOPS | {"restartCount": 2}]})
    rolled_back(scene, f"pod {CANARY}-0: container vllm keeps failing: CUDA error: an illegal memory access")


def test_pods_that_do_not_answer_in_time() -> None:
    scene = started(probes={"startupSeconds": 600})
    canary_answers(scene, 0)
    waits = {"name": "vllm", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}
    canary_pod(scene, {"containerStatuses": [waits]})
    assert scene.once().retry_after == 1200
    scene.later(1200)
    assert progress(scene)["state"] == "Starting"
    scene.later(1)
    rolled_back(
        scene, "its Pods did not answer in 1200 s: 0 of 1 new replicas answer; container vllm: ImagePullBackOff"
    )


def test_a_deployment_that_gives_up() -> None:
    scene = started()
    canary_answers(scene, 0)
    live = scene.get("Deployment", CANARY)
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    scene.create(live | {"status": live["status"] | {"conditions": [condition]}})
    rolled_back(scene, "0 of 1 new replicas answer")


def test_a_pod_that_no_longer_answers_while_it_gets_requests() -> None:
    scene = sharing()
    canary_answers(scene, 0)
    assert progress(scene)["state"] == "Starting", "no Pod has failed: it was evicted, or its node ended"
    assert weights(scene) == [(NAME, None)]
    canary_answers(scene)
    gateway_follows(scene)
    conditions = [{"type": "Ready", "status": "False"}]
    canary_pod(scene, {"conditions": conditions, "containerStatuses": [{"name": "vllm", "state": ENDED}]})
    canary_answers(scene, 0)
    rolled_back(scene, f"pod {CANARY}-0 no longer answers")


def test_a_pod_that_the_cluster_ends_is_no_failure() -> None:
    scene = sharing()
    evicted = [{"type": "Ready", "status": "False"}, {"type": "DisruptionTarget", "status": "True"}]
    canary_pod(scene, {"conditions": evicted})
    canary_answers(scene, 0)
    assert progress(scene)["state"] == "Starting"
    assert weights(scene) == [(NAME, None)]


def test_an_engine_that_is_not_what_was_verified() -> None:
    scene = started()
    canary_answers(scene, 0)
    check = Check(name="ServedLogprobs", value=0.6, bound=0.1, unit="nats/token", passed=False)
    scene.served[f"{CANARY}-0"] = ServedVerification(
        reason="ServedDiffers", message="log-probabilities differ", reference="sha256:r", passed=False, checks=(check,)
    )
    canary_pod(scene, {"initContainerStatuses": [{"name": "served", "state": {"running": {}}}]})
    rolled_back(scene, "log-probabilities differ")
    assert not scene.conditions().get("ServedVerified")


def analysed(steps: list[dict[str, int]] | None = None) -> Scene:
    canary = {"steps": steps or [{"weight": 10, "pauseSeconds": 60}], "analysis": ANALYSIS}
    scene = served(canary=canary)
    change(scene, canary=canary)
    canary_answers(scene)
    gateway_follows(scene)
    return scene


def told(scene: Scene, **new: Any) -> None:
    """Has the Prometheus answer what the last pass asks."""
    question = scene.once().effects.canary_question
    assert question
    assert question.prometheus == PROMETHEUS
    old = VersionFigures(requests=1000)
    scene.canary_figures = CanaryFigures(question, old, VersionFigures(**new))
    scene.settle()


def test_figures_beyond_their_limits() -> None:
    scene = analysed()
    told(scene, requests=100, failed=30)
    rolled_back(scene, "30 of 100 requests failed")


def test_a_step_lasts_until_enough_requests_were_answered() -> None:
    scene = analysed()
    told(scene, requests=12)
    scene.later(1000)
    assert progress(scene)["state"] == "Sharing"
    assert "12 of 20 requests answered" in scene.condition("Ready").message
    told(scene, requests=20)
    assert progress(scene)["state"] == "Replacing"
    assert scene.once().effects.canary_question is None


def test_figures_that_nobody_can_tell_refuse_the_canary() -> None:
    scene = served()
    change(scene, canary={"analysis": {}})
    assert scene.stalled().reason == "NoFigures"
    assert not has_canary(scene)
    assert NEW[0] not in arguments(scene)


def failed() -> Scene:
    scene = started()
    canary_answers(scene, 0)
    canary_pod(scene, {"containerStatuses": [LOOPS | {"restartCount": 2}]})
    gateway_follows(scene)
    scene.later(5)
    scene.cache.remove("Pod", (NAMESPACE, f"{CANARY}-0"))
    return scene


def test_it_is_tried_again_once_for_each_promotion() -> None:
    scene = failed()
    (key,) = keys(scene, "RolledBack")
    annotate(scene, "promote", key)
    assert progress(scene)["state"] == "Starting"
    assert keys(scene, "Canary") == [key]
    canary_answers(scene)
    assert progress(scene)["state"] == "Sharing", "the same annotation does not take all steps"
    canary_answers(scene, 0)
    canary_pod(scene, {"containerStatuses": [LOOPS | {"restartCount": 2}]})
    rolled_back(scene, "keeps failing")
    scene.cache.remove("Pod", (NAMESPACE, f"{CANARY}-0"))
    annotate(scene, "promote", f"{key}/again")
    assert progress(scene)["state"] == "Starting"


def test_a_corrected_spec_is_a_canary_of_its_own_and_the_failure_stays_told() -> None:
    scene = failed()
    change(scene, ["--max-num-seqs", "7"])
    assert versions(scene) == [("Canary", None), ("Serving", 100), ("RolledBack", None)]
    change(scene)
    assert scene.stalled().reason == "RolledBack"


def test_the_spec_before_it_is_served_as_it_was() -> None:
    scene = failed()
    change(scene, [])
    assert scene.phase() == "Ready"
    assert not has_canary(scene)


@pytest.mark.parametrize("seconds", [0, 5, 61])
def test_without_a_gateway_that_follows_the_pods_end_after_a_minute(seconds: int) -> None:
    scene = sharing()
    change(scene, [])
    scene.later(seconds)
    assert has_canary(scene) is (seconds < 60)
