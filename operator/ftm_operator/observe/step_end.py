"""Finds Jobs whose step has ended while another container of its pod goes on, as a proxy of a service mesh does. Pure.

Kubernetes calls such a Job neither complete nor failed. The step's own end decides.
"""

from collections.abc import Sequence

from ftm_operator.resources.metadata import STEP, Manifest

JOB_NAME = "batch.kubernetes.io/job-name"


def pods_of(job: Manifest, pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns a Job's pods, the newest first."""
    own = [pod for pod in pods if pod["metadata"].get("labels", {}).get(JOB_NAME) == job["metadata"]["name"]]
    return sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True)


def step_statuses(pod: Manifest) -> list[Manifest]:
    """Returns the status of a pod's container that runs the step, if there is one yet."""
    step = pod["metadata"].get("labels", {}).get(STEP)
    return [status for status in _statuses(pod) if status.get("name") == step]


def step_has_ended(job: Manifest, pods: Sequence[Manifest]) -> bool:
    """Tells whether a Job goes on for other containers' sake alone."""
    return _end(job, pods) is not None


def with_end_of_step(job: Manifest, pods: Sequence[Manifest]) -> Manifest:
    """Returns a Job with the condition that it would have if its step's container were its pod's only one."""
    end = _end(job, pods)
    if end is None:
        return job
    code = end.get("exitCode")
    condition = {
        "type": "Failed" if code else "Complete",
        "status": "True",
        "lastTransitionTime": end["finishedAt"],
        "message": f"its step ended with exit code {code}, while other containers of its pod go on",
    }
    status = job.get("status") or {}
    return {**job, "status": {**status, "conditions": [*(status.get("conditions") or []), condition]}}


def _end(job: Manifest, pods: Sequence[Manifest]) -> Manifest | None:
    """Returns how the step of the newest pod ended, if another container of it has not."""
    newest = next(iter(pods_of(job, pods)), None)
    if newest is None or "deletionTimestamp" in newest["metadata"]:
        return None
    if newest.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return None
    ends = [terminated for status in step_statuses(newest) if (terminated := _terminated(status)).get("finishedAt")]
    others = [status for status in _statuses(newest) if status not in step_statuses(newest)]
    return ends[0] if ends and not all(map(_terminated, others)) else None


def _statuses(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("containerStatuses") or []


def _terminated(status: Manifest) -> Manifest:
    return (status.get("state") or {}).get("terminated") or {}
