"""Reads whether the pods of a canary answer, and what of theirs ends it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ftm_operator.observe.pod_trouble import container_statuses, is_disrupted, pod_trouble
from ftm_operator.observe.rollout import RolledOut, rollout
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.resources.metadata import STEP, Manifest
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.serving.serving_labels import CANARY, answers

MOST_RESTARTS = 2
"""Restarts of a container that keeps failing, after which a canary has failed."""


@dataclass(frozen=True)
class CanaryPods:
    """The state of a canary's pods."""

    answer: bool
    message: str
    failure: str | None = None
    """The reason for which the canary has failed."""
    unexplained: Manifest | None = None
    """The object that has not started, where no status says why."""


def of_canary(pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns the pods of a model's canary."""
    return [pod for pod in pods if _is_canary(pod)]


def of_stable(pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns the pods of a model but for its canary's."""
    return [pod for pod in pods if not _is_canary(pod)]


def canary_pods(child: Manifest, pods: Sequence[Manifest], shared_since: datetime | None) -> CanaryPods:
    """Returns how the pods of a canary's child are. Since `shared_since`, if that is, they all answer requests."""
    state = rollout(child, pods)
    if isinstance(state, RolledOut):
        return CanaryPods(True, state.message)
    if state.stalled:
        return CanaryPods(False, state.message, state.message)
    template = template_hash(answering_template(child))
    current = [pod for pod in pods if template_hash(pod) == template and not is_disrupted(pod)]
    failures = (_failure(pod, shared_since) for pod in current)
    return CanaryPods(False, state.message, next(filter(None, failures), None), state.unexplained)


def _failure(pod: Manifest, shared_since: datetime | None) -> str | None:
    looping = any(
        (each.get("state") or {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        and int(each.get("restartCount") or 0) >= MOST_RESTARTS
        for each in container_statuses(pod)
    )
    if looping:
        return f"pod {pod['metadata']['name']}: {pod_trouble(pod)}"
    if shared_since and answers(pod) and not true_condition(pod, "Ready") and _began_before(pod, shared_since):
        trouble = pod_trouble(pod)
        return f"pod {pod['metadata']['name']} no longer answers" + (f": {trouble}" if trouble else "")
    return None


def _began_before(pod: Manifest, moment: datetime) -> bool:
    began = (pod.get("status") or {}).get("startTime")
    try:
        return began is None or datetime.fromisoformat(began) < moment
    except (TypeError, ValueError):
        return True


def _is_canary(pod: Manifest) -> bool:
    return (pod["metadata"].get("labels") or {}).get(STEP) == CANARY
