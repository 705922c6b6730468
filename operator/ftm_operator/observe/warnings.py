"""Reads from Events why an object waits, where no status says it. Pure.

A Job whose pods are refused has no pod and no condition; a pod whose volume cannot be mounted is only being created.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ftm_operator.api.texts import one_line
from ftm_operator.observe.pod_trouble import MOST_QUOTED
from ftm_operator.observe.remedies import with_remedy
from ftm_operator.resources.metadata import Manifest

_NOT_A_CAUSE = ("FailedScheduling",)
"""The pod's own condition says it, and for as long as it is so."""


class Subject(NamedTuple):
    """The object that Events are about."""

    kind: str
    name: str
    uid: str


def subject_of(item: Manifest) -> Subject:
    """Returns a stored object as Events refer to it."""
    metadata = item["metadata"]
    return Subject(item["kind"], metadata["name"], metadata.get("uid", ""))


def explained(unexplained: Manifest | None, warnings: Mapping[Subject, str]) -> tuple[Subject | None, str]:
    """Returns the object whose Events may say why it has not started, if one is named, and what they say by now."""
    subject = subject_of(unexplained) if unexplained else None
    return subject, warnings.get(subject, "") if subject else ""


def warning_in(events: Sequence[Manifest]) -> str | None:
    """Returns the words of an object's newest Event and what to do, if it is a warning."""
    newest = max(events, key=lambda event: (_time(event), event.get("type") == "Warning"), default=None)
    if newest is None or newest.get("type") != "Warning" or newest.get("reason") in _NOT_A_CAUSE:
        return None
    said = one_line(newest.get("message"), MOST_QUOTED)
    return with_remedy(": ".join(filter(None, (newest.get("reason"), said))))


def _time(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
