"""Reads how long serving pods took from their start until they answered, and with what. Pure.

The kubelet tells when a pod was started, when its files were fetched and when it was ready; the engine's log tells of
the rest. What no part accounts for is the image's pull, the start of processes and the wait for a probe.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ftm_operator.api.v1alpha1 import Start
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.planning.feedback.start_parts import StartParts
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.serving.serving_labels import FETCH, answers

LOG_IS_READ = timedelta(hours=1)
"""After so long a start's log is no longer asked for: an operator that is new reads no old pods' logs."""
PARTS = {
    "fetch": "fetch_seconds",
    "load": "load_seconds",
    "compile": "compile_seconds",
    "warm-up": "warm_up_seconds",
}
"""Names of the parts, in their order, and their fields."""


def measured_start(
    child: Manifest, pods: Sequence[Manifest], before: Start | None, told: Mapping[str, StartParts] | None = None
) -> Start | None:
    """Returns the start of the child's present version, as it was first seen; None until one of its pods answers.

    It is measured once: a pod that is ready again after a failure of its probe tells of no start. `told` is what
    engines' logs say, by the names of their pods; it is added when it is known.
    """
    version = template_hash(answering_template(child))
    if before and is_told(before, version):
        return before
    current = [pod for pod in pods if answers(pod) and template_hash(pod) == version]
    start = before if before and before.input_hash == version else _first_seen(current, version)
    parts = next((part for pod in current if (part := (told or {}).get(pod["metadata"]["name"]))), None)
    return start.model_copy(update=vars(parts)) if start and parts else start


def is_untold(before: Start | None, child: Manifest, pods: Sequence[Manifest], now: datetime) -> bool:
    """Tells whether the log of a pod that has just started may still say where the time of its start went."""
    version = template_hash(answering_template(child))
    if before and is_told(before, version):
        return False
    times = [_ready_since(pod) for pod in pods if answers(pod) and template_hash(pod) == version]
    return any(since is not None and now - since < LOG_IS_READ for since in times)


def is_told(start: Start, version: str | None) -> bool:
    """Tells whether it is known where the time of this version's start went."""
    return start.input_hash == version and has_parts(start)


def has_parts(start: Start) -> bool:
    """Tells whether the engine's log has said something of the start."""
    return any(each is not None for each in (start.load_seconds, start.compile_seconds, start.warm_up_seconds))


def said_of_start(start: Start) -> str:
    """Returns the start in words: `started in 84 s: fetch 31, load 12, compile 30, warm-up 9, the rest 2`."""
    seconds = {name: getattr(start, field) for name, field in PARTS.items()}
    known = {name: taken for name, taken in seconds.items() if taken is not None}
    rest = start.seconds - sum(known.values())
    parts = known | ({"the rest": rest} if known and rest > 0 else {})
    words = ", ".join(f"{name} {taken}" for name, taken in parts.items())
    return f"started in {start.seconds} s{': ' if words else ''}{words}"


def _first_seen(pods: Sequence[Manifest], version: str | None) -> Start | None:
    """Returns the shortest start of these pods."""
    starts = [(taken, pod) for pod in pods if (taken := _seconds(pod)) is not None]
    if not starts:
        return None
    seconds, pod = min(starts, key=lambda start: start[0])
    return Start(seconds=seconds, fetch_seconds=_fetch_seconds(pod), input_hash=version)


def _seconds(pod: Manifest) -> int | None:
    return _between((pod.get("status") or {}).get("startTime"), _ready_time(pod))


def _fetch_seconds(pod: Manifest) -> int | None:
    """Returns the seconds in which the pod's files were fetched; None where it fetches none."""
    containers = (pod.get("status") or {}).get("initContainerStatuses") or []
    ended = next((each.get("state") or {} for each in containers if each.get("name") == FETCH), {}).get("terminated")
    return _between(ended.get("startedAt"), ended.get("finishedAt")) if ended else None


def _ready_since(pod: Manifest) -> datetime | None:
    return _time(_ready_time(pod))


def _ready_time(pod: Manifest) -> object:
    return (true_condition(pod, "Ready") or {}).get("lastTransitionTime")


def _between(begins: object, ends: object) -> int | None:
    begin, end = _time(begins), _time(ends)
    return max(0, round((end - begin).total_seconds())) if begin and end else None


def _time(text: object) -> datetime | None:
    """Returns a time as Kubernetes writes it; None where it is none."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None
