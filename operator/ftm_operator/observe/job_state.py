"""Reads the state of a step from its Jobs and their pods. Pure.

A step's Jobs are its attempts, whoever made them; the newest one counts. Kubernetes retries pods inside a Job; when a
Job has failed for good, the next attempt follows after a delay that doubles from MINUTE to TEN_MINUTES, because a
bucket, a Secret or a network may be mended without a change of the FineTunedModel. What has not been tried yet (a
corrected spec or installation, another resource's own credentials) is tried at once. A Job that ran out of memory is
followed at once, and once, by one with more, unless the spec says how much a Job may have.
A Job ends with its step, although other containers of its pod go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.texts import one_line
from ftm_operator.observe.pod_trouble import is_disrupted, is_unexplained, pod_end, pod_trouble
from ftm_operator.observe.reports import report_in
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.observe.step_end import pods_of, step_statuses, with_end_of_step
from ftm_operator.resources.metadata import ATTEMPT, FIRST_ATTEMPT, JOB_SPEC, MORE_MEMORY, STEP, Manifest

MINUTE, TEN_MINUTES = 60.0, 600.0
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Due:
    """A Job with this attempt's number is to be created."""

    attempt: int
    first: int
    """The first attempt that ran the same."""
    more_memory: bool = False
    """The attempt before ran out of memory at the usual limit, or was given more already."""


@dataclass(frozen=True)
class Running:
    """The newest attempt is pending or running."""

    message: str
    unexplained: Manifest | None = None
    """The Job that has no pod, or its pod that has not started, where no status says why; Events may."""
    pod: str | None = None
    """The pod that runs now, whose log tells how far it is."""
    superseded: Manifest | None = None
    """The Job, if it is to make way for one that is made as the spec and the installation are now."""


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


@dataclass(frozen=True)
class Wanted:
    """The Job that a step would make now."""

    spec_hash: str
    may_have_more: bool
    """An attempt may get more memory than usual; it may not where the spec says how much."""
    ours: Callable[[Manifest], bool]
    """Tells whether a Job is this resource's own."""
    shared: bool
    """Other resources' Jobs count too; else they only have a name that a new one must not have."""
    memory_limit_field: str
    """The field of the spec by which the step gets more memory."""
    whose_jobs: str = ""
    """The words after the name of a field of `spec.jobs`, where the spec is another resource's."""


def job_state(
    jobs: Sequence[Manifest],
    pods: Sequence[Manifest],
    now: datetime,
    wanted: Wanted,
    seen: Callable[[Manifest], datetime | None] = lambda _: None,
) -> State:
    """Returns the state of one step.

    `seen` tells when the operator first saw that a Job had ended, by its own clock.
    """
    jobs = [job if finished(job) else with_end_of_step(job, pods) for job in jobs]
    last = max((attempt(job) for job in jobs), default=0)
    counted = [job for job in jobs if wanted.shared or wanted.ours(job)]
    alive = [job for job in counted if "deletionTimestamp" not in job["metadata"]]
    same = [job for job in alive if _spec_hash(job) in (None, wanted.spec_hash)]
    first = min(map(_first_attempt, same), default=last + 1)
    if not alive or attempt(newest := max(alive, key=attempt)) < max(map(attempt, counted)):
        return Due(last + 1, first)
    own_pods = pods_of(newest, pods)
    if complete := true_condition(newest, "Complete"):
        report = next((found for pod in own_pods if (found := report_of(pod)) and found.outcome == Outcome.DONE), None)
        if report:
            return Done(report)
        since, tries = _ended(newest, complete, seen), attempt(newest) - first
        return _unreported(newest, _remaining(tries, since, now), first)
    if true_condition(newest, "Failed"):
        tried = [job for job in same if true_condition(job, "Failed")]
        if not tried:
            return Due(last + 1, last + 1)
        return _broken(_Failure(newest, max(tried, key=attempt), first, seen), pods, now, wanted)
    pod = _running_pod(own_pods)
    replaceable = pod is None and wanted.ours(newest) and newest not in same
    return Running(*_activity(newest, own_pods), superseded=newest if replaceable else None, pod=pod)


def attempt(job: Manifest) -> int:
    """Returns the number of a Job's attempt, from 1; 0 where it has none."""
    return _number((job["metadata"].get("labels") or {}).get(ATTEMPT), 0)


def _first_attempt(job: Manifest) -> int:
    return _number((job["metadata"].get("annotations") or {}).get(FIRST_ATTEMPT), attempt(job))


def _number(text: str | None, otherwise: int) -> int:
    """Returns the number in a label, which anyone may edit."""
    return int(text) if text and text.isascii() and text.isdigit() else otherwise


def _spec_hash(job: Manifest) -> str | None:
    """Returns the hash of what a Job runs; None of one that an older operator made."""
    found: str | None = job["metadata"].get("annotations", {}).get(JOB_SPEC)
    return found


def finished(job: Manifest) -> bool:
    """Tells whether a Job has ended, well or badly."""
    return bool(true_condition(job, "Complete") or true_condition(job, "Failed"))


def report_of(pod: Manifest) -> Report | None:
    """Returns the report that a pod's step left as its termination message, if it left one."""
    return next((report for container in step_statuses(pod) if (report := report_in(_terminated(container)))), None)


@dataclass(frozen=True)
class _Failure:
    """A step's newest Job, which failed, and the newest that failed as this resource's would."""

    newest: Manifest
    job: Manifest
    first: int
    seen: Callable[[Manifest], datetime | None]


def _broken(failure: _Failure, pods: Sequence[Manifest], now: datetime, wanted: Wanted) -> State:
    job, following = failure.job, attempt(failure.newest) + 1
    failed = true_condition(job, "Failed") or {}
    last = max(pods_of(job, pods), key=_finished_at, default=None)
    report = report_of(last) if last else None
    out_of_memory = bool(last and _out_of_memory(last, report))
    had_more = MORE_MEMORY in job["metadata"].get("annotations", {})
    if out_of_memory and wanted.may_have_more and not had_more:
        return Due(following, failure.first, more_memory=True)
    since = _ended(failure.newest, true_condition(failure.newest, "Failed") or {}, failure.seen)
    retry_after = _remaining(attempt(failure.newest) - failure.first + 1, since, now)
    if retry_after <= 0:
        return Due(following, failure.first, more_memory=had_more and wanted.may_have_more)
    name = job["metadata"]["name"]
    if out_of_memory:
        limit = _memory_limit(job)
        instead = "raise" if limit else "set"
        message = f"Job {name} ran out of memory at {limit or 'no limit'}; {instead} {wanted.memory_limit_field}"
        return Broken(OperatorReason.OUT_OF_MEMORY, message, True, retry_after)
    if report:
        return Broken(report.reason, report.message, report.outcome == Outcome.INVALID_INPUT, retry_after)
    if failed.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds")
        message = f"Job {name} took longer than {seconds} s; raise spec.jobs.activeDeadlineSeconds{wanted.whose_jobs}"
        return Broken(OperatorReason.DEADLINE_EXCEEDED, message, True, retry_after)
    why = (pod_end(last) if last else None) or one_line(failed.get("message") or failed.get("reason")) or "no message"
    return Broken(OperatorReason.JOB_FAILED, f"Job {name} failed: {why}", False, retry_after)


def _unreported(job: Manifest, retry_after: float, first: int) -> State:
    """Returns the state of a Job that is complete and whose report is gone with its pod, or cannot be read."""
    if retry_after <= 0:
        return Due(attempt(job) + 1, first)
    message = (
        f"Job {job['metadata']['name']} is complete, but no pod of it has a report that can be read; it is run again, "
        "and if this lasts, install the Jobs' images of the operator's version"
    )
    return Broken(OperatorReason.INCOMPLETE_REPORT, message, False, retry_after)


def _remaining(tries: int, since: datetime, now: datetime) -> float:
    """Returns the seconds until the next attempt after so many that ended the same; none are waited for after none."""
    delay = min(MINUTE * 2.0 ** (tries - 1), TEN_MINUTES) if tries > 0 else 0.0
    return (since + timedelta(seconds=delay) - now).total_seconds()


def _ended(job: Manifest, condition: Manifest, seen: Callable[[Manifest], datetime | None]) -> datetime:
    """Returns when a Job ended.

    That is as the API server's clock has it, or the operator's own where the two are more than MINUTE apart: a clock
    that is a day behind must not delay by a day, and one that is ahead must not do away with the delay.
    """
    told, first_seen = _told(condition), seen(job)
    if told is None:
        return first_seen or _LONG_AGO
    if first_seen is None or abs((first_seen - told).total_seconds()) <= MINUTE:
        return told
    return first_seen


def _told(condition: Manifest) -> datetime | None:
    """Returns when a condition changed; None where it does not say."""
    try:
        told = datetime.fromisoformat(str(condition.get("lastTransitionTime")))
    except ValueError:
        return None
    return told if told.tzinfo else None


def _out_of_memory(pod: Manifest, report: Report | None) -> bool:
    """Tells whether the kernel killed a container for its memory, or the step itself said so."""
    if report:
        return report.reason == OperatorReason.OUT_OF_MEMORY
    killed = any(_terminated(container).get("reason") == "OOMKilled" for container in step_statuses(pod))
    return killed and not is_disrupted(pod)


def _memory_limit(job: Manifest) -> str | None:
    step = job["metadata"].get("labels", {}).get(STEP)
    for container in job["spec"]["template"]["spec"]["containers"]:
        if container["name"] == step:
            limit: str | None = container.get("resources", {}).get("limits", {}).get("memory")
            return limit
    return None


def _activity(job: Manifest, pods: Sequence[Manifest]) -> tuple[str, Manifest | None]:
    """Returns what a Job does or waits for, and the object whose Events may say more."""
    name = job["metadata"]["name"]
    newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
    if newest is None:
        return f"Job {name} has no pod yet", job
    if trouble := pod_trouble(newest):
        return f"Job {name} is pending: {trouble}", None
    failures = [report.message for pod in pods if (report := report_of(pod)) and report.outcome != Outcome.DONE]
    retried = f"; the last try failed: {failures[-1]}" if failures else ""
    if is_unexplained(newest):
        return f"Job {name} is starting{retried}", newest
    return f"Job {name} is running{retried}", None


def _running_pod(pods: Sequence[Manifest]) -> str | None:
    running = (pod for pod in pods if any("running" in container.get("state", {}) for container in step_statuses(pod)))
    return next((str(pod["metadata"]["name"]) for pod in running), None)


def _terminated(container: Manifest) -> dict[str, Any]:
    return container.get("state", {}).get("terminated") or {}


def _finished_at(pod: Manifest) -> str:
    return max((str(_terminated(container).get("finishedAt", "")) for container in step_statuses(pod)), default="")
