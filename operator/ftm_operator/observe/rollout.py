"""Reads how far the rollout of a Deployment or a LeaderWorkerSet is. Pure.

A LeaderWorkerSet's status may be of an older spec and not say so: of its groups, those count whose leader is a pod of
the present template.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.texts import one_line
from ftm_operator.observe.pod_trouble import is_unexplained, pod_trouble
from ftm_operator.observe.remedies import with_remedy
from ftm_operator.observe.reports import report_in
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.serving.pod_templates import answering_template, artifact_digest, template_hash
from ftm_operator.resources.serving.serving_labels import answers

LOST = ("SourceNotFound", "MissingFile")
"""The fetch step's reasons for an artifact that is no longer there; building it again brings it back."""


@dataclass(frozen=True)
class RolledOut:
    """Every replica runs the wanted version and answers."""

    message: str


@dataclass(frozen=True)
class RollingOut:
    """Some replica does not run the wanted version, or does not answer."""

    message: str
    reason: str = OperatorReason.ROLLING_OUT
    stalled: bool = False
    unexplained: Manifest | None = None
    """The object that has not started, where no status says why; its Events may."""
    lost_at: str | None = None
    """When a pod found that the artifact is not in its store, as Kubernetes writes times."""


@dataclass(frozen=True)
class Replicas:
    """Counts of a child's replicas; a LeaderWorkerSet's are its groups."""

    all: int
    updated: int
    available: int

    @property
    def surplus(self) -> int:
        """Replicas of an earlier version."""
        return self.all - self.updated


def rollout(child: Manifest, pods: Sequence[Manifest]) -> RolledOut | RollingOut:
    """Returns whether a child has reached its spec, and if not, what it waits for."""
    status, wanted = child.get("status", {}), child["spec"].get("replicas", 1)
    of_groups = child.get("kind") == LEADER_WORKER_SET
    generation = child["metadata"].get("generation", 0)
    if status.get("observedGeneration", generation if of_groups else 0) < generation:
        return RollingOut(f"the {child.get('kind', 'Deployment')} controller has not observed the new spec yet")
    if of_groups and not status:
        return RollingOut(
            f"LeaderWorkerSet {child['metadata']['name']} is not taken up yet; if this lasts, install or mend its "
            "controller"
        )
    counted = _of_the_present(child, pods) if of_groups else replicas(child)
    updated, available = counted.updated, counted.available
    if updated >= wanted and available >= wanted and counted.surplus <= 0:
        return RolledOut("scaled to zero" if wanted == 0 else f"{available} of {wanted} replicas answer")
    current = [pod for pod in pods if _is_of(pod, answering_template(child), of_groups=of_groups)]
    current.sort(key=lambda pod: bool(pod.get("status", {}).get("phase") == "Failed"))  # its successor has the news
    if refused := next((refusal for pod in current if (refusal := _refused_fetch(pod))), None):
        report, at = refused
        lost_at = at if report.reason in LOST else None
        return RollingOut(f"the model cannot be fetched: {report.message}", report.reason, True, lost_at=lost_at)
    trouble = _refused_pods(child) or next((words for pod in current if (words := pod_trouble(pod))), None)
    answering = min(updated, available if counted.surplus <= 0 else sum(map(_is_ready, current)))
    progress = f"{answering} of {wanted} new replicas answer" + (f"; {trouble}" if trouble else "")
    unexplained = None if trouble else _unexplained(child, current, of_groups=of_groups)
    for condition in status.get("conditions") or []:
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return RollingOut(progress, OperatorReason.PROGRESS_DEADLINE_EXCEEDED, True, unexplained)
    return RollingOut(progress, unexplained=unexplained)


def _is_of(pod: Manifest, template: Manifest, *, of_groups: bool) -> bool:
    """Tells whether a pod is of a template: its artifact, and, but for a group's workers, its engine's arguments."""
    if artifact_digest(pod) != artifact_digest(template):
        return False
    own = _arguments(pod)
    return of_groups or all(own.get(name, wanted) == wanted for name, wanted in _arguments(template).items())


def _arguments(pod: Manifest) -> dict[str, list[str]]:
    return {each["name"]: each.get("args") or [] for each in pod.get("spec", {}).get("containers") or []}


def _unexplained(child: Manifest, pods: Sequence[Manifest], *, of_groups: bool) -> Manifest | None:
    """Returns the pod that does not start, or the StatefulSet that makes no leader of a group; it has its name."""
    if of_groups and not pods:
        return {"kind": "StatefulSet", "metadata": {"name": child["metadata"]["name"]}}
    return next(filter(is_unexplained, pods), None)


def _refused_pods(child: Manifest) -> str | None:
    """Returns the API server's words on pods that it does not take: a quota, Pod Security, a policy."""
    condition = true_condition(child, "ReplicaFailure")
    return with_remedy(one_line(condition.get("message") or condition.get("reason"))) if condition else None


def replicas(child: Manifest) -> Replicas:
    """Returns the counts in a child's status; of a LeaderWorkerSet the groups that are ready count as answering."""
    status = child.get("status", {})
    answering = "readyReplicas" if child.get("kind") == LEADER_WORKER_SET else "availableReplicas"
    return Replicas(status.get("replicas", 0), status.get("updatedReplicas", 0), status.get(answering, 0))


def has_rolled_out(child: Manifest) -> bool:
    """Tells whether the present version has answered once, whatever became of its pods since."""
    counts, progressing = replicas(child), true_condition(child, "Progressing") or {}
    return progressing.get("reason") == "NewReplicaSetAvailable" or (counts.available > 0 and counts.surplus <= 0)


def _of_the_present(child: Manifest, pods: Sequence[Manifest]) -> Replicas:
    counts, template = replicas(child), template_hash(answering_template(child))
    leaders = [pod for pod in pods if answers(pod) and template_hash(pod) == template]
    ready = [pod for pod in leaders if _is_ready(pod)]
    return Replicas(counts.all, min(counts.updated, len(leaders)), min(counts.available, len(ready)))


def _is_ready(pod: Manifest) -> bool:
    return true_condition(pod, "Ready") is not None


def _refused_fetch(pod: Manifest) -> tuple[Report, str] | None:
    """Returns the fetch container's last report and its time, if it found the artifact itself wrong."""
    for container in pod.get("status", {}).get("initContainerStatuses") or []:
        for state in (container.get("state", {}), container.get("lastState", {})):
            terminated = state.get("terminated") or {}
            report = None if container.get("ready") else report_in(terminated)
            if report and report.outcome == Outcome.INVALID_INPUT:
                return report, str(terminated.get("finishedAt", ""))
    return None
