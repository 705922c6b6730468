"""Runs one step that a Job does: adopts its kept result or its Job's report, or holds the pass. Pure."""

from dataclasses import replace

from ftm_operator.observe.job_state import finished
from ftm_operator.reconcile.holds import Hold, incomplete
from ftm_operator.reconcile.passes import Context, Effects, StepOutcome
from ftm_operator.reconcile.prune import spent_jobs
from ftm_operator.reconcile.step_jobs import StepJobs, run_jobs
from ftm_operator.resources.job import JobIdentity, JobOwner, job_identity
from ftm_operator.resources.metadata import NAME
from ftm_operator.steps.step import JobStep, StepInputs, StepResult


def run_job_step(context: Context, step: JobStep, inputs: StepInputs) -> StepOutcome:
    """Returns the step's result, or its hold with the Job that is to be created."""
    if not step.asked(inputs.model) or not step.applies(inputs):
        return StepOutcome(StepResult(skipped=True))
    model, input_hash = context.model, step.input_hash(inputs)
    identity = job_identity(model, step, input_hash, inputs.store)
    kept = step.kept(context.before, input_hash, inputs.store)
    if kept and _is_of_every_adapter(inputs, kept):
        effects = Effects(spent_jobs(model, context.observed, identity, result_is_kept=True))
        return replace(_judged(step, inputs, kept), effects=effects)
    work = StepJobs(JobOwner(model, model.spec.jobs), step, step.command(inputs), identity, step.shared)
    outcome = run_jobs(work, context.observed, context.settings, context.now)
    if isinstance(outcome.report, Hold):
        hold = _naming_the_builder(context, step, outcome.report, identity)
        return StepOutcome(hold=hold, effects=outcome.effects)
    result = step.adopt(outcome.report, input_hash)
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


def _naming_the_builder(context: Context, step: JobStep, hold: Hold, identity: JobIdentity) -> Hold:
    """Returns the hold with the name of another resource, if that one's Job builds what this one waits for."""
    if hold.stalled or not step.shared:
        return hold
    jobs = context.observed.jobs(identity.label, identity.value)
    builders = {item["metadata"]["labels"].get(NAME, "?") for item in jobs if not finished(item)}
    others = sorted(builders - {context.model.metadata.name})
    return replace(hold, message=f"{hold.message} (shared with FineTunedModel {others[0]})") if others else hold
