"""Runs one step that a Job does: adopts its kept result or its Job's report, or holds the pass. Pure."""

from dataclasses import replace

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe.drift import ABSENT
from ftm_operator.observe.job_state import Due, Running, State, Wanted, finished, job_state
from ftm_operator.observe.warnings import subject_of
from ftm_operator.reconcile.holds import Hold, incomplete, report_or_hold
from ftm_operator.reconcile.passes import Action, Apply, Context, Delete, Effects, StepOutcome, StepPod
from ftm_operator.reconcile.prune import spent_jobs, superseded_jobs
from ftm_operator.resources.job import (
    Attempt,
    JobIdentity,
    job,
    job_identity,
    job_spec_hash,
    lack_of_memory,
    may_have_more_memory,
    memory_limit_field,
)
from ftm_operator.resources.metadata import NAME, owned_by
from ftm_operator.steps.step import JobStep, StepInputs, StepResult


def run_job_step(context: Context, step: JobStep, inputs: StepInputs) -> StepOutcome:
    """Returns the step's result, or its hold with the Job that is to be created."""
    if not step.applies(inputs):
        return StepOutcome(StepResult(skipped=True))
    input_hash = step.input_hash(inputs)
    identity = job_identity(context.model, step, input_hash, inputs.store)
    kept = step.kept(context.before, input_hash, inputs.store)
    if kept and _is_of_every_adapter(inputs, kept):
        effects = Effects(spent_jobs(context, identity, result_is_kept=True))
        return replace(_judged(step, inputs, kept), effects=effects)
    state = _state(context, step, inputs, identity)
    if isinstance(state, Due) and (lack := lack_of_memory(context.model, step.command(inputs))):
        hold = Hold("Failed", OperatorReason.OUT_OF_MEMORY, lack, stalled=True)
        return StepOutcome(hold=hold, effects=Effects(_obsolete_jobs(context, step, identity)))
    effects = _effects(context, step, inputs, identity, state)
    report = report_or_hold(_with_warning(context, _with_progress(context, step, state)), step)
    if isinstance(report, Hold):
        return StepOutcome(hold=_naming_the_builder(context, step, report, identity), effects=effects)
    result = step.adopt(report, input_hash)
    if result is None or not _is_of_every_adapter(inputs, result):
        return StepOutcome(hold=incomplete(step))
    return _judged(step, inputs, result)


def _is_of_every_adapter(inputs: StepInputs, result: StepResult) -> bool:
    """Tells whether a result's facts, if it has any, are of as many adapters as the spec has."""
    return result.facts is None or len(result.facts.adapters) == len(inputs.model.spec.adapters)


def _judged(step: JobStep, inputs: StepInputs, result: StepResult) -> StepOutcome:
    objection = step.objection(inputs, result)
    if objection is None:
        return StepOutcome(result)
    name = inputs.model.metadata.name
    message = f"{objection}; nothing is rolled out and what serves goes on serving: see `ftm report {name}`"
    return StepOutcome(result, Hold("Failed", step.verdict(result).reason, message, stalled=True))


def _state(context: Context, step: JobStep, inputs: StepInputs, identity: JobIdentity) -> State:
    """Returns the state of the step's Jobs."""
    model, observed = context.model, context.observed
    spec_hash = job_spec_hash(model, step.command(inputs), context.settings)
    wanted = Wanted(
        spec_hash,
        may_have_more_memory(model, step.name),
        lambda item: owned_by(item, model),
        step.shared,
        memory_limit_field(model, step.name),
    )
    pods = observed.pods(identity.label, identity.value)
    jobs = [
        item
        for item in observed.jobs(identity.label, identity.value)
        if step.shared or item["metadata"]["labels"].get(NAME) == model.metadata.name
    ]
    return job_state(jobs, pods, context.now, wanted, observed.first_seen)


def _effects(context: Context, step: JobStep, inputs: StepInputs, identity: JobIdentity, state: State) -> Effects:
    """Returns the Job that is due, and what a shared build is followed by."""
    actions: tuple[Action, ...] = _obsolete_jobs(context, step, identity)
    if isinstance(state, Due):
        attempt = Attempt(state.attempt, state.first, state.more_memory)
        actions += (Apply(job(context.model, step.command(inputs), identity, attempt, context.settings), ABSENT),)
    if isinstance(state, Running) and state.superseded:
        actions += (Delete(state.superseded),)
    running = state if isinstance(state, Running) else None
    unexplained = subject_of(running.unexplained) if running and running.unexplained else None
    if not step.shared:
        return Effects(actions, unexplained=unexplained)
    pod = StepPod(running.pod, step.name) if running and running.pod else None
    return Effects(actions, awaited_build=identity.value, progress_pod=pod, unexplained=unexplained)


def _obsolete_jobs(context: Context, step: JobStep, identity: JobIdentity) -> tuple[Delete, ...]:
    return superseded_jobs(context, step, identity) + spent_jobs(context, identity, result_is_kept=False)


def _with_progress(context: Context, step: JobStep, state: State) -> State:
    progress = context.observed.progress.get(state.pod or "") if isinstance(state, Running) else None
    if not progress or not isinstance(state, Running):
        return state
    return replace(state, message=f"{step.phase.lower()}: {progress} ({state.message})")


def _with_warning(context: Context, state: State) -> State:
    if not isinstance(state, Running) or state.unexplained is None:
        return state
    warning = context.observed.warnings.get(subject_of(state.unexplained))
    return replace(state, message=f"{state.message}: {warning}") if warning else state


def _naming_the_builder(context: Context, step: JobStep, hold: Hold, identity: JobIdentity) -> Hold:
    """Returns the hold with the name of another resource, if that one's Job builds what this one waits for."""
    if hold.stalled or not step.shared:
        return hold
    jobs = context.observed.jobs(identity.label, identity.value)
    builders = {item["metadata"]["labels"].get(NAME, "?") for item in jobs if not finished(item)}
    others = sorted(builders - {context.model.metadata.name})
    return replace(hold, message=f"{hold.message} (shared with FineTunedModel {others[0]})") if others else hold
