"""Reads the state of a step from its Jobs and their pods. Pure.

A step's Jobs are its attempts; the newest one counts. Kubernetes retries pods inside a Job; when a Job has failed for
good, the next attempt follows at once when the spec has changed since, else after a delay that doubles from MINUTE to
TEN_MINUTES, because a bucket, a Secret or a network may be mended without a change of the FineTunedModel. One that ran
out of memory is followed at once, and once, by one with more, unless the spec says how much a Job may have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe.pod_trouble import pod_trouble
from ftm_operator.observe.reports import report_in
from ftm_operator.resources.metadata import ATTEMPT, GENERATION, MORE_MEMORY, Manifest

JOB_NAME = "batch.kubernetes.io/job-name"
MINUTE, TEN_MINUTES = 60.0, 600.0


@dataclass(frozen=True)
class Due:
    """A Job with this attempt's number is to be created."""

    attempt: int
    more_memory: bool = False
    """The attempt before ran out of memory at the usual limit, or was given more already."""


@dataclass(frozen=True)
class Running:
    """The newest attempt is pending or running."""

    message: str
    pod: str | None = None
    """The pod that runs now, whose log tells how far it is."""


@dataclass(frozen=True)
class Done:
    """The newest attempt succeeded."""

    report: Report


@dataclass(frozen=True)
class Broken:
    """The newest attempt failed; the next one is due in `retry_after` seconds."""

    reason: str
    message: str
    stalled: bool
    """A person must act: the input is wrong, or more memory or time must be granted."""
    retry_after: float


State = Due | Running | Done | Broken


def job_state(
    jobs: Sequence[Manifest],
    pods: Sequence[Manifest],
    now: datetime,
    ours: Callable[[Manifest], bool],
    *,
    generation: int,
    may_have_more: bool,
) -> State:
    """Returns the state of one step.

    A failure of somebody else's Job is no verdict on ours: our own attempt follows it.

    `generation` is the resource's: a failed Job that was made for an older spec is followed at once.
    `may_have_more`: whether an attempt may get more memory than usual; it may not where the spec says how much.
    """
    last_attempt = max((attempt(job) for job in jobs), default=0)
    alive = [job for job in jobs if "deletionTimestamp" not in job["metadata"]]
    if not alive or attempt(newest := max(alive, key=attempt)) < last_attempt:
        return Due(last_attempt + 1)
    own_pods = [pod for pod in pods if pod["metadata"].get("labels", {}).get(JOB_NAME) == newest["metadata"]["name"]]
    if _condition(newest, "Complete"):
        report = next(
            (pod_report for pod in own_pods if (pod_report := report_of(pod)) and pod_report.outcome == Outcome.DONE),
            None,
        )
        return Done(report) if report else Due(last_attempt + 1)
    if failed := _condition(newest, "Failed"):
        if not ours(newest) or _generation(newest) != generation:
            return Due(last_attempt + 1)
        return _broken(newest, failed, own_pods, now, may_have_more=may_have_more)
    return Running(_activity(newest, own_pods), _running_pod(own_pods))


def attempt(job: Manifest) -> int:
    """Returns the number of a Job's attempt, from 1; 0 where it has none."""
    return int(job["metadata"].get("labels", {}).get(ATTEMPT, 0))


def _generation(job: Manifest) -> int:
    return int(job["metadata"].get("annotations", {}).get(GENERATION, 0))


def finished(job: Manifest) -> bool:
    """Tells whether a Job has ended, well or badly."""
    return bool(_condition(job, "Complete") or _condition(job, "Failed"))


def report_of(pod: Manifest) -> Report | None:
    """Returns the report that a pod's container left as its termination message, if it left one."""
    return next((report for container in _statuses(pod) if (report := report_in(_terminated(container)))), None)


def _broken(job: Manifest, failed: Manifest, pods: Sequence[Manifest], now: datetime, *, may_have_more: bool) -> State:
    tries, last = attempt(job), max(pods, key=_finished_at, default=None)
    report = report_of(last) if last else None
    out_of_memory = bool(last and _out_of_memory(last, report))
    had_more = MORE_MEMORY in job["metadata"].get("annotations", {})
    if out_of_memory and may_have_more and not had_more:
        return Due(tries + 1, more_memory=True)
    delay = min(MINUTE * 2 ** (tries - 1), TEN_MINUTES)
    failed_at = datetime.fromisoformat(failed["lastTransitionTime"])
    retry_after = (failed_at + timedelta(seconds=delay) - now).total_seconds()
    if retry_after <= 0:
        return Due(tries + 1, more_memory=had_more and may_have_more)
    name = job["metadata"]["name"]
    if out_of_memory:
        limit = _memory_limit(job)
        instead = "raise" if limit else "set"
        message = f"Job {name} ran out of memory at {limit or 'no limit'}; {instead} spec.jobs.resources.limits.memory"
        return Broken(OperatorReason.OUT_OF_MEMORY, message, True, retry_after)
    if report:
        return Broken(report.reason, report.message, report.outcome == Outcome.INVALID_INPUT, retry_after)
    if failed.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds")
        message = f"Job {name} took longer than {seconds} s; raise spec.jobs.activeDeadlineSeconds"
        return Broken(OperatorReason.DEADLINE_EXCEEDED, message, True, retry_after)
    return Broken(
        OperatorReason.JOB_FAILED, f"Job {name} failed: {failed.get('message', 'no message')}", False, retry_after
    )


def _out_of_memory(pod: Manifest, report: Report | None) -> bool:
    """Tells whether the kernel killed a container for its memory, or the step itself said so."""
    if report:
        return report.reason == OperatorReason.OUT_OF_MEMORY
    return any(_terminated(container).get("reason") == "OOMKilled" for container in _statuses(pod))


def _memory_limit(job: Manifest) -> str | None:
    container = job["spec"]["template"]["spec"]["containers"][0]
    limit: str | None = container.get("resources", {}).get("limits", {}).get("memory")
    return limit


def _activity(job: Manifest, pods: Sequence[Manifest]) -> str:
    name = job["metadata"]["name"]
    newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
    if newest is None:
        return f"Job {name} has no pod yet"
    if trouble := pod_trouble(newest):
        return f"Job {name} is pending: {trouble}"
    failures = [report.message for pod in pods if (report := report_of(pod)) and report.outcome != Outcome.DONE]
    retried = f"; the last try failed: {failures[-1]}" if failures else ""
    return f"Job {name} is running{retried}"


def _running_pod(pods: Sequence[Manifest]) -> str | None:
    running = (pod for pod in pods if any("running" in container.get("state", {}) for container in _statuses(pod)))
    return next((str(pod["metadata"]["name"]) for pod in running), None)


def _condition(job: Manifest, kind: str) -> Manifest | None:
    conditions: list[Manifest] = job.get("status", {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def _statuses(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("containerStatuses") or []


def _terminated(container: Manifest) -> dict[str, Any]:
    return container.get("state", {}).get("terminated") or {}


def _finished_at(pod: Manifest) -> str:
    return max((str(_terminated(container).get("finishedAt", "")) for container in _statuses(pod)), default="")
