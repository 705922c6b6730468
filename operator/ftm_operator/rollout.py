"""How a Deployment's rollout stands. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.contract import Outcome, Report
from ftm_operator.pod_trouble import pod_trouble
from ftm_operator.reasons import Reason
from ftm_operator.reports import report_in
from ftm_operator.resources.metadata import ARTIFACT_DIGEST, Manifest

LOST = ("SourceNotFound", "MissingFile")
"""What the fetch step says of an artifact that is no longer there; building it again brings it back."""


@dataclass(frozen=True)
class Serving:
    """Every replica runs the wanted version and answers."""

    message: str


@dataclass(frozen=True)
class RollingOut:
    message: str
    reason: str = Reason.ROLLING_OUT
    stalled: bool = False
    lost_at: str | None = None
    """When a pod found that the artifact is not in its store, as Kubernetes writes times."""


def rollout(deployment: Manifest, pods: Sequence[Manifest]) -> Serving | RollingOut:
    """Whether the Deployment has reached its spec; if not, what it waits for."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return RollingOut("the Deployment's new spec is not yet observed")
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    surplus = status.get("replicas", 0) - updated
    if updated >= wanted and available >= wanted and surplus <= 0:
        return Serving("scaled to zero" if wanted == 0 else f"{available} of {wanted} replicas answer")
    current = [pod for pod in pods if _artifact_digest(pod) == _artifact_digest(deployment["spec"]["template"])]
    if refused := next((found for pod in current if (found := _refused_fetch(pod))), None):
        report, at = refused
        lost_at = at if report.reason in LOST else None
        return RollingOut(f"the model cannot be fetched: {report.message}", report.reason, True, lost_at)
    trouble = next((words for pod in current if (words := pod_trouble(pod))), None)
    progress = f"{min(updated, available)} of {wanted} new replicas answer" + (f"; {trouble}" if trouble else "")
    for condition in status.get("conditions") or []:
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return RollingOut(progress, Reason.PROGRESS_DEADLINE_EXCEEDED, stalled=True)
    return RollingOut(progress)


def _artifact_digest(pod: Manifest) -> str | None:
    digest: str | None = pod["metadata"].get("annotations", {}).get(ARTIFACT_DIGEST)
    return digest


def _refused_fetch(pod: Manifest) -> tuple[Report, str] | None:
    """What the fetch container said last and when, if it found the artifact itself wrong."""
    for container in pod.get("status", {}).get("initContainerStatuses") or []:
        for state in (container.get("state", {}), container.get("lastState", {})):
            terminated = state.get("terminated") or {}
            report = None if container.get("ready") else report_in(terminated)
            if report and report.outcome == Outcome.INVALID_INPUT:
                return report, str(terminated.get("finishedAt", ""))
    return None
