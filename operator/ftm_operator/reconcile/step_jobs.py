"""Follows the Jobs of one step of one resource to their report, or to what they wait for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ftm_jobs.contract.report import Report
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe.drift import ABSENT
from ftm_operator.observe.job_state import Due, Running, State, Wanted, job_state
from ftm_operator.observe.warnings import subject_of
from ftm_operator.reconcile.holds import Hold, report_or_hold
from ftm_operator.reconcile.passes import Action, Apply, Delete, Effects, ObservedChildren, StepPod
from ftm_operator.reconcile.prune import spent_jobs, superseded_jobs
from ftm_operator.resources.job import (
    Attempt,
    JobIdentity,
    JobOwner,
    job,
    job_spec_hash,
    lack_of_memory,
    may_have_more_memory,
    memory_limit_field,
)
from ftm_operator.resources.metadata import Manifest, owned_by, owner_label
from ftm_operator.settings import Settings
from ftm_operator.steps.step import PipelineStep, StepCommand


@dataclass(frozen=True)
class StepJobs:
    """A step that Jobs do for a resource."""

    owner: JobOwner
    step: PipelineStep
    command: StepCommand
    identity: JobIdentity
    shared: bool
    """True where all resources that need the same result share one Job."""


@dataclass(frozen=True)
class JobsOutcome:
    """The report of a step's Jobs, or what the step waits for."""

    report: Report | Hold
    effects: Effects


def run_jobs(work: StepJobs, observed: ObservedChildren, settings: Settings, now: datetime) -> JobsOutcome:
    """Returns the step's report, or its hold with the Job that is to be created."""
    state = _state(work, observed, settings, now)
    obsolete = _obsolete_jobs(work, observed)
    if isinstance(state, Due) and (lack := lack_of_memory(work.owner, work.command)):
        return JobsOutcome(Hold("Failed", OperatorReason.OUT_OF_MEMORY, lack, stalled=True), Effects(obsolete))
    effects = _effects(work, state, obsolete, settings)
    said = _with_warning(observed, _with_progress(observed, work.step, state))
    return JobsOutcome(report_or_hold(said, work.step), effects)


def _state(work: StepJobs, observed: ObservedChildren, settings: Settings, now: datetime) -> State:
    """Returns the state of the step's Jobs."""
    owner, identity = work.owner.resource, work.identity
    wanted = Wanted(
        job_spec_hash(work.owner.jobs, work.command, settings),
        may_have_more_memory(work.owner.jobs, work.step.name),
        lambda item: owned_by(item, owner),
        work.shared,
        memory_limit_field(work.owner, work.step.name),
        work.owner.whose_jobs,
    )
    pods = observed.pods(identity.label, identity.value)
    jobs = [item for item in observed.jobs(identity.label, identity.value) if work.shared or _is_named(item, work)]
    return job_state(jobs, pods, now, wanted, observed.first_seen)


def _is_named(item: Manifest, work: StepJobs) -> bool:
    owner = work.owner.resource
    name: str | None = item["metadata"]["labels"].get(owner_label(owner.kind))
    return name == owner.metadata.name


def _effects(work: StepJobs, state: State, obsolete: Sequence[Action], settings: Settings) -> Effects:
    """Returns the Job that is due, and what a shared build is followed by."""
    actions: tuple[Action, ...] = tuple(obsolete)
    if isinstance(state, Due):
        attempt = Attempt(state.attempt, state.first, state.more_memory)
        actions += (Apply(job(work.owner, work.command, work.identity, attempt, settings), ABSENT),)
    if isinstance(state, Running) and state.superseded:
        actions += (Delete(state.superseded),)
    running = state if isinstance(state, Running) else None
    unexplained = subject_of(running.unexplained) if running and running.unexplained else None
    if not work.shared:
        return Effects(actions, unexplained=unexplained)
    pod = StepPod(running.pod, work.step.name) if running and running.pod else None
    return Effects(actions, awaited_build=work.identity.value, progress_pod=pod, unexplained=unexplained)


def _obsolete_jobs(work: StepJobs, observed: ObservedChildren) -> tuple[Delete, ...]:
    owner = work.owner.resource
    superseded = superseded_jobs(owner, observed, work.step, work.identity)
    return superseded + spent_jobs(owner, observed, work.identity, result_is_kept=False)


def _with_progress(observed: ObservedChildren, step: PipelineStep, state: State) -> State:
    progress = observed.progress.get(state.pod or "") if isinstance(state, Running) else None
    if not progress or not isinstance(state, Running):
        return state
    return replace(state, message=f"{step.phase.lower()}: {progress} ({state.message})")


def _with_warning(observed: ObservedChildren, state: State) -> State:
    if not isinstance(state, Running) or state.unexplained is None:
        return state
    warning = observed.warnings.get(subject_of(state.unexplained))
    return replace(state, message=f"{state.message}: {warning}") if warning else state
