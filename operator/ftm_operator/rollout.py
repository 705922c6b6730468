"""How a Deployment's rollout stands. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from ftm_jobs.contract import Outcome, Report
from ftm_operator.pod_trouble import pod_trouble
from ftm_operator.resources.metadata import ARTIFACT_DIGEST, Manifest


@dataclass(frozen=True)
class Serving:
    """Every replica runs the wanted version and answers."""

    message: str


@dataclass(frozen=True)
class RollingOut:
    message: str
    reason: str = "RollingOut"
    stalled: bool = False


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
    if report := next((found for pod in current if (found := _fetch_report(pod))), None):
        return RollingOut(f"the model cannot be fetched: {report.message}", report.reason, stalled=True)
    trouble = next((words for pod in current if (words := pod_trouble(pod))), None)
    progress = f"{min(updated, available)} of {wanted} new replicas answer" + (f"; {trouble}" if trouble else "")
    for condition in status.get("conditions") or []:
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return RollingOut(progress, "ProgressDeadlineExceeded", stalled=True)
    return RollingOut(progress)


def _artifact_digest(pod: Manifest) -> str | None:
    digest: str | None = pod["metadata"].get("annotations", {}).get(ARTIFACT_DIGEST)
    return digest


def _fetch_report(pod: Manifest) -> Report | None:
    """What the fetch container said last, when it found the artifact itself wrong."""
    for container in pod.get("status", {}).get("initContainerStatuses") or []:
        for state in (container.get("state", {}), container.get("lastState", {})):
            message = (state.get("terminated") or {}).get("message")
            if message and not container.get("ready"):
                try:
                    report = Report.model_validate_json(message)
                except ValidationError:
                    continue
                if report.outcome == Outcome.INVALID_INPUT:
                    return report
    return None
