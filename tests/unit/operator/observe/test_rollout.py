"""When a rollout is done, and what is said of one that is not."""

from typing import Any

import pytest

from ftm_operator.observe.rollout import RolledOut, RollingOut, rollout
from ftm_operator.resources.metadata import ARTIFACT_DIGEST

DIGEST = {"annotations": {ARTIFACT_DIGEST: "sha256:new"}}

PULL = "check the image's name, and that the nodes reach its registry"
EVICTED = "request as much memory and ephemeral storage as it uses, or free the nodes"


def deployment(wanted: int = 2, observed: int = 1, **status: Any) -> dict[str, Any]:
    full = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), wanted)
    return {
        "metadata": {"generation": 1},
        "spec": {"replicas": wanted, "template": {"metadata": DIGEST}},
        "status": {"observedGeneration": observed, **full, **status},
    }


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **DIGEST}, "status": status}


def test_every_replica_updated_and_available_is_serving() -> None:
    assert rollout(deployment(), []) == RolledOut("2 of 2 replicas answer")
    assert rollout(deployment(0), []) == RolledOut("scaled to zero")


@pytest.mark.parametrize(
    "behind",
    [
        {"observed": 0},
        {"updatedReplicas": 1},
        {"availableReplicas": 1},
        {"replicas": 3},
    ],
    ids=["not observed", "old replica", "not available", "old replica not gone"],
)
def test_anything_less_is_rolling_out(behind: dict[str, Any]) -> None:
    assert isinstance(rollout(deployment(**behind), []), RollingOut)


def test_the_pods_trouble_is_told_in_the_clusters_words() -> None:
    waiting = {"name": "vllm", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    state = rollout(deployment(availableReplicas=0), [pod(containerStatuses=[waiting])])
    assert state == RollingOut(f"0 of 2 new replicas answer; container vllm: ImagePullBackOff: no such image; {PULL}")


def test_an_old_replica_that_answers_is_no_new_one() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient gpu."}
    state = rollout(deployment(1, replicas=2), [pod(conditions=[waiting])])
    assert state == RollingOut("0 of 1 new replicas answer; 0/1 nodes are available: 1 Insufficient gpu.")


def test_an_old_replica_of_the_same_artifact_with_other_arguments_is_no_new_one() -> None:
    def containers(*args: str) -> dict[str, Any]:
        return {"containers": [{"name": "vllm", "args": list(args)}]}

    child, ready = deployment(1, replicas=2), [{"type": "Ready", "status": "True"}]
    child["spec"]["template"]["spec"] = containers("--seed", "2")
    injected = {"name": "mesh", "args": ["proxy"]}
    old, new = ({**pod(conditions=ready), "spec": containers("--seed", seed)} for seed in "12")
    new["spec"]["containers"].append(injected)
    told = [state.message for pods in ([old], [old, new]) if isinstance(state := rollout(child, pods), RollingOut)]
    assert told == ["0 of 1 new replicas answer", "1 of 1 new replicas answer"]


def test_pods_that_the_api_server_does_not_take_are_told_in_its_words() -> None:
    refused = 'pods "p" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused}
    state = rollout(deployment(1, availableReplicas=0, updatedReplicas=0, conditions=[condition]), [])
    assert state == RollingOut(
        f"0 of 1 new replicas answer; {refused}; raise the namespace's quota, or free some of it"
    )


def test_a_pod_that_was_evicted_says_why() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    state = rollout(deployment(1, availableReplicas=0), [evicted])
    assert state == RollingOut(
        f"0 of 1 new replicas answer; pod p: Evicted: The node was low on resource: memory; {EVICTED}"
    )
    pulled = {"name": "vllm", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    state = rollout(deployment(1, availableReplicas=0), [evicted, pod(containerStatuses=[pulled])])
    assert state == RollingOut(f"0 of 1 new replicas answer; container vllm: ErrImagePull: no such image; {PULL}")


def test_an_engine_that_keeps_failing_is_quoted() -> None:
    ended = {"reason": "Error", "exitCode": 1, "message": "Traceback\nValueError: no free memory\n"}
    failing = {
        "name": "vllm",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    state = rollout(deployment(availableReplicas=0), [pod(containerStatuses=[failing])])
    assert isinstance(state, RollingOut)
    assert state.message.endswith("container vllm keeps failing: ValueError: no free memory (Error, exit code 1)")


def test_a_rollout_past_its_deadline_is_stalled() -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    state = rollout(deployment(availableReplicas=0, conditions=[condition]), [])
    assert state == RollingOut("0 of 2 new replicas answer", "ProgressDeadlineExceeded", stalled=True)
