"""Words the trouble of a pod that does not run, so that a person can act on it. Pure."""

from typing import Any

from ftm_operator.resources.metadata import Manifest

NORMAL_WAITS = {"ContainerCreating", "PodInitializing"}


def pod_trouble(pod: Manifest) -> str | None:
    """Returns the scheduler's or the kubelet's own words; None when nothing is wrong."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"pod {pod['metadata']['name']}: {status['reason']}: {status.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason"))
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if trouble := _container_trouble(container):
            return trouble
    return None


def _container_trouble(container: Manifest) -> str | None:
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason")
    if not reason or reason in NORMAL_WAITS:
        return None
    name, last_words = container["name"], _last_words(container.get("lastState", {}).get("terminated") or {})
    if last_words:
        return f"container {name} keeps failing: {last_words}"
    return f"container {name}: {reason}: {waiting.get('message', '')}".rstrip(": ")


def _last_words(terminated: dict[str, Any]) -> str:
    """Returns the last line that a container wrote, and how it ended."""
    lines = [line for line in str(terminated.get("message", "")).splitlines() if line.strip()]
    reason, code = terminated.get("reason"), terminated.get("exitCode")
    ended = f"{reason}, exit code {code}" if reason else ""
    return f"{lines[-1].strip()} ({ended})" if lines else ended
