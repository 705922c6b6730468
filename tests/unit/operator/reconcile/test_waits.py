"""A status names what a step waits for, and how a pod without a report ended."""

import pytest

from ftm_operator.observe.warnings import Subject
from tests.unit.operator.objects import pod_of
from tests.unit.operator.scene import Scene, scene_of, serving

QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: pods, requested: pods=1; raise the quota'


def test_a_job_without_pods_is_explained_by_its_events() -> None:
    scene = scene_of()
    name = scene.running_job("inspect")["metadata"]["name"]
    asked = scene.once().effects.unexplained
    assert asked == Subject("Job", name, "")
    scene.warnings[asked] = QUOTA
    scene.settle()
    assert scene.condition("Ready").message == f"Job {name} has no pod yet: {QUOTA}"
    assert scene.phase() == "Inspecting"


def test_events_are_not_asked_for_once_a_pod_runs() -> None:
    scene = scene_of()
    job = scene.running_job("inspect")
    creating = {"waiting": {"reason": "ContainerCreating"}}
    scene.create(pod_of(job, creating))
    assert scene.once().effects.unexplained == Subject("Pod", f"{job['metadata']['name']}-0", "")
    assert scene.condition("Ready").message.endswith("is starting")
    scene.create(pod_of(job, {"running": {}}))
    assert scene.once().effects.unexplained is None
    assert serving().once().effects.unexplained is None


def test_a_serving_pod_that_cannot_mount_its_volume_is_explained_by_its_events() -> None:
    scene = scene_of()
    scene.reach("Deploying")
    scene.answer(replicas=0)
    scene.serving_pod({"waiting": {"reason": "ContainerCreating"}})
    asked = scene.once().effects.unexplained
    assert asked
    scene.warnings[asked] = "FailedMount: no such claim"
    scene.settle()
    assert scene.condition("Ready").message == "0 of 1 new replicas answer; FailedMount: no such claim"


def _end(scene: Scene, **pod: object) -> str:
    job = scene.running_job("merge")
    ended = pod_of(job, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, phase="Failed")
    ended["metadata"].update(pod.pop("metadata", {}))
    ended["status"].update(pod)
    scene.put(ended)
    failed = {"type": "Failed", "status": "True", "message": "x", "lastTransitionTime": scene.moment()}
    scene.create(job | {"status": {"conditions": [failed]}})
    return scene.condition("Ready").message


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory; request as much memory and ephemeral storage as it uses",
        ),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "while the pod was being deleted: OOMKilled"),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]},
            "DeletionByTaintManager; see to the node",
        ),
    ],
    ids=["evicted", "deleted", "node lost"],
)
def test_a_pod_that_the_cluster_ended_did_not_run_out_of_memory(pod: dict[str, object], said: str) -> None:
    scene = scene_of()
    scene.reach("Merging")
    if "reason" in pod:
        pod = {**pod, "conditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert said in _end(scene, **pod)
    assert not scene.is_stalled()
    assert len(scene.jobs("merge")) == 1
