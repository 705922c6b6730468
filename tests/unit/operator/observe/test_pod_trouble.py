"""Every way in which a pod does not run, as the kubelet and the scheduler say it, with what to do."""

from typing import Any

import pytest

from ftm_operator.observe.pod_trouble import is_unexplained, pod_end, pod_trouble
from ftm_operator.observe.warnings import warning_in

ADMISSION = (
    "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, Available: 0"
)


def pod(**status: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "p", "uid": "1"}, "status": status}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return pod(containerStatuses=[{"name": "merge", "state": {"waiting": {"reason": reason, "message": message}}}])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            pod(phase="Failed", reason="UnexpectedAdmissionError", message=ADMISSION),
            (
                f"pod p: UnexpectedAdmissionError: {ADMISSION}; see that the node's device plugin offers the GPUs "
                "that it "
                "says it has"
            ),
        ),
        (
            pod(
                conditions=[
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "default-scheduler: preempting to accommodate a higher priority pod",
                    }
                ]
            ),
            (
                "pod p: PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod; "
                "free "
                "the nodes, or give it a higher priority class"
            ),
        ),
        (
            pod(phase="Running", reason="NodeLost", message="Node n which was running pod p is unresponsive"),
            "pod p: NodeLost: Node n which was running pod p is unresponsive; see to the node",
        ),
        (
            waiting("ErrImagePull", 'failed to resolve reference "r/x:1": unexpected status: 401 Unauthorized'),
            (
                'container merge: ErrImagePull: failed to resolve reference "r/x:1": unexpected status: 401 '
                "Unauthorized; "
                "check the image's name, and give the pods an image pull Secret for its registry"
            ),
        ),
        (
            waiting("InvalidImageName", 'Failed to apply default image tag "R": couldn\'t parse image name "R"'),
            (
                'container merge: InvalidImageName: Failed to apply default image tag "R": couldn\'t parse image '
                'name "R"; '
                "correct the name of the image"
            ),
        ),
        (
            waiting("CreateContainerConfigError", 'secret "keys" not found'),
            (
                'container merge: CreateContainerConfigError: secret "keys" not found; create the Secret, or correct '
                "its "
                "name"
            ),
        ),
        (waiting("ContainerCreating"), None),
        (pod(conditions=None, containerStatuses=None), None),
        ({"metadata": {"name": "p"}}, None),
        (pod(containerStatuses=[{"name": "merge", "state": None, "lastState": None}]), None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_trouble_is_told_in_the_clusters_words_with_what_to_do(found: dict[str, Any], said: str | None) -> None:
    assert pod_trouble(found) == said


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    said = pod_trouble(waiting("ErrImagePull", f"rpc error: {'🚀' * 5000} no\n such\thost"))
    assert said
    assert len(said) < 800
    assert said.startswith("container merge: ErrImagePull: rpc error: 🚀")
    assert "no such host; check the image's name" in said


@pytest.mark.parametrize("deleted", [{}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
def test_a_container_that_was_killed_says_whether_its_pod_was_being_deleted(deleted: dict[str, str]) -> None:
    found = pod(containerStatuses=[{"name": "merge", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}])
    found["metadata"].update(deleted)
    being = " while the pod was being deleted" if deleted else ""
    assert pod_end(found) == f"container merge ended{being}: Error, exit code 137"


def test_a_setting_that_the_engine_refuses_is_told_and_not_the_link_below_it() -> None:
    words = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig\n"
        "  Value error, max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (256).\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error\n"
    )
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": words}}
    looping = {"name": "vllm", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    assert pod_trouble(pod(containerStatuses=[looping])) == (
        "container vllm keeps failing: Value error, max_num_batched_tokens (64) must be greater than or equal to "
        "max_num_seqs (256). (Error, exit code 1)"
    )


def test_only_a_pod_that_starts_nothing_and_says_nothing_is_unexplained() -> None:
    assert is_unexplained(waiting("ContainerCreating"))
    assert is_unexplained(pod(phase="Pending"))
    assert not is_unexplained(waiting("ErrImagePull"))
    assert not is_unexplained(pod(phase="Running"))
    assert not is_unexplained(pod(phase="Pending", containerStatuses=[{"name": "merge", "state": {"running": {}}}]))


def event(reason: str, message: str, at: str, kind: str = "Warning") -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": at}


def test_the_newest_event_counts_and_only_if_it_warns() -> None:
    words = 'MountVolume.SetUp failed for volume "v" : secret "s" not found'
    mount = event("FailedMount", words, "2026-01-01T00:00:01Z")
    pulling = event("Pulling", 'Pulling image "x"', "2026-01-01T00:00:02Z", "Normal")
    scheduled = event("Scheduled", "Successfully assigned", "2026-01-01T00:00:01Z", "Normal")
    assert warning_in([scheduled, mount]) == f"FailedMount: {words}; create the Secret, or correct its name"
    assert warning_in([mount, pulling]) is None
    assert warning_in([]) is None
    assert warning_in([event("FailedScheduling", "0/1 nodes", "2026-01-01T00:00:03Z")]) is None
    assert warning_in([{"type": "Warning", "message": None}]) == ""
