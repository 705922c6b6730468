"""Words the trouble of a pod that does not run, so that a person can act on it. Pure."""

from typing import Any

from ftm_operator.api.texts import one_line
from ftm_operator.observe.remedies import with_remedy
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.resources.metadata import Manifest

NORMAL_WAITS = {"ContainerCreating", "PodInitializing"}
MOST_QUOTED = 600
"""Characters of what the scheduler, the kubelet or a registry says."""
PYDANTIC_LINK = "For further information visit https://errors.pydantic.dev/"
DISRUPTED = "DisruptionTarget"
"""The condition of a pod that the cluster ends for reasons that are not the pod's own."""


def pod_trouble(pod: Manifest) -> str | None:
    """Returns the scheduler's or the kubelet's own words, and what to do; None when nothing is wrong."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" or status.get("reason"):
        return _end_by_the_cluster(pod)
    if disruption := true_condition(pod, DISRUPTED):
        return _named(pod, _reason_and_words(disruption))
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _quoted(condition.get("message") or condition.get("reason"))
    return next((trouble for container in container_statuses(pod) if (trouble := _container_trouble(container))), None)


def pod_end(pod: Manifest) -> str | None:
    """Returns how a pod that failed without a report ended: by the cluster's doing, or by its container's own."""
    if by_the_cluster := _end_by_the_cluster(pod):
        return by_the_cluster
    deleted = " while the pod was being deleted" if pod["metadata"].get("deletionTimestamp") else ""
    for container in container_statuses(pod):
        terminated = _state(container).get("terminated") or {}
        if terminated.get("exitCode") and (words := _last_words(terminated)):
            return f"container {container.get('name')} ended{deleted}: {words}"
    return None


def is_disrupted(pod: Manifest) -> bool:
    """Tells whether the cluster or a person ended a pod, so that how its containers ended says nothing of them."""
    return bool(true_condition(pod, DISRUPTED) or pod["metadata"].get("deletionTimestamp"))


def is_unexplained(pod: Manifest) -> bool:
    """Tells whether a pod has a node, runs nothing yet, and does not say why: only its Events may."""
    status = pod.get("status") or {}
    if status.get("phase", "Pending") != "Pending" or pod_trouble(pod) or pod["metadata"].get("deletionTimestamp"):
        return False
    waits = [(_state(container).get("waiting") or {}).get("reason") for container in container_statuses(pod)]
    return all(wait in NORMAL_WAITS for wait in waits)


def _end_by_the_cluster(pod: Manifest) -> str | None:
    status = pod.get("status") or {}
    if status.get("reason"):
        return _named(pod, _reason_and_words(status))
    if disruption := true_condition(pod, DISRUPTED):
        return _named(pod, _reason_and_words(disruption))
    return None


def _reason_and_words(said: Manifest) -> str:
    return f"{said.get('reason') or ''}: {said.get('message') or ''}".strip(": ")


def _named(pod: Manifest, words: str) -> str:
    return f"pod {pod['metadata']['name']}: {_quoted(words)}"


def _quoted(words: object) -> str:
    return with_remedy(one_line(words, MOST_QUOTED))


def container_statuses(pod: Manifest) -> list[Manifest]:
    """Returns the statuses of all of a pod's containers, those before the start of the others first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _state(container: Manifest) -> dict[str, Any]:
    return container.get("state") or {}


def _container_trouble(container: Manifest) -> str | None:
    waiting = _state(container).get("waiting") or {}
    reason = waiting.get("reason")
    if not reason or reason in NORMAL_WAITS:
        return None
    name = container.get("name")
    if last_words := _last_words((container.get("lastState") or {}).get("terminated") or {}):
        return f"container {name} keeps failing: {last_words}"
    return f"container {name}: {_quoted(_reason_and_words(waiting))}"


def _last_words(terminated: dict[str, Any]) -> str:
    """Returns the last line that a container wrote, and how it ended.

    vLLM refuses most settings by pydantic, which writes a link below the sentence that counts.
    """
    written = str(terminated.get("message") or "").splitlines()
    lines = [line for line in written if line.strip() and not line.strip().startswith(PYDANTIC_LINK)]
    reason, code = terminated.get("reason"), terminated.get("exitCode")
    ended = ", ".join(filter(None, (reason, f"exit code {code}" if code is not None else "")))
    return f"{one_line(lines[-1], MOST_QUOTED)} ({ended})" if lines else ended
