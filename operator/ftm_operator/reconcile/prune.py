"""Finds the Jobs that are no longer wanted: old ones that have ended, and those that go on for nothing. Pure."""

from collections.abc import Sequence

from ftm_operator.observe.job_state import attempt, finished
from ftm_operator.observe.step_end import step_has_ended
from ftm_operator.reconcile.passes import Delete, ObservedChildren
from ftm_operator.resources.job import JobIdentity, has_scratch
from ftm_operator.resources.metadata import STEP, Manifest, Owner, owned_by, owner_label
from ftm_operator.steps.step import PipelineStep

FINISHED_JOBS_KEPT = 3
"""Per step and resource: their logs may still be wanted."""


def surplus_jobs(owner: Owner, observed: ObservedChildren, steps: Sequence[PipelineStep]) -> tuple[Delete, ...]:
    """Returns the finished Jobs beyond the newest few of each step; their results are in status."""
    own, surplus = _own_jobs(owner, observed), []
    for step in steps:
        done = [job for job in own if job["metadata"]["labels"].get(STEP) == step.name and finished(job)]
        done.sort(key=lambda job: (job["metadata"].get("creationTimestamp", ""), job["metadata"]["name"]))
        surplus += [job for job in done[:-FINISHED_JOBS_KEPT] if "deletionTimestamp" not in job["metadata"]]
    return tuple(map(Delete, surplus))


def running_jobs(owner: Owner, observed: ObservedChildren) -> tuple[Delete, ...]:
    """Returns the Jobs that have not ended; a merge that is asked for again goes on from its finished files."""
    return tuple(map(Delete, _unfinished_jobs(owner, observed)))


def superseded_jobs(
    owner: Owner, observed: ObservedChildren, step: PipelineStep, identity: JobIdentity
) -> tuple[Delete, ...]:
    """Returns the Jobs of the step that have not ended, and work on what is no longer asked for."""
    return tuple(
        Delete(job)
        for job in _unfinished_jobs(owner, observed)
        if job["metadata"]["labels"].get(STEP) == step.name
        and job["metadata"]["labels"].get(identity.label) != identity.value
    )


def spent_jobs(
    owner: Owner, observed: ObservedChildren, identity: JobIdentity, *, result_is_kept: bool
) -> tuple[Delete, ...]:
    """Returns the Jobs whose step has ended and that still hold memory for other containers, or a scratch volume.

    One stays until its result is in status, or until the attempt after it is there.
    """
    newest = max(map(attempt, observed.jobs(identity.label, identity.value)), default=0)
    pods = observed.pods(identity.label, identity.value)
    return tuple(
        Delete(job)
        for job in _own_jobs(owner, observed)
        if job["metadata"]["labels"].get(identity.label) == identity.value
        and "deletionTimestamp" not in job["metadata"]
        and (has_scratch(job) if finished(job) else step_has_ended(job, pods))
        and (result_is_kept or attempt(job) < newest)
    )


def _unfinished_jobs(owner: Owner, observed: ObservedChildren) -> list[Manifest]:
    return [
        job for job in _own_jobs(owner, observed) if not finished(job) and "deletionTimestamp" not in job["metadata"]
    ]


def _own_jobs(owner: Owner, observed: ObservedChildren) -> list[Manifest]:
    labelled = observed.jobs(owner_label(owner.kind), owner.metadata.name)
    return [job for job in labelled if owned_by(job, owner)]
