"""Decides what to do next for one FineTunedModel: (resource, what was observed, now) -> actions and status. Pure.

The steps run in the order of their list; the plan is made from the facts that the first of them yields. Each step
returns a result, or a hold that says why the later steps cannot run yet. Nothing that serves is touched before its
successor is built and verified. What a step yielded is kept in status, so its Job may go; status is summarised once,
at the end, by `summary`.

Invariants
- the same resource, observation and time give the same result; a state that is as wanted gives no action;
- spec is never written; a child is applied only when it is absent or differs, and then in full;
- a finished artifact is built again only when its key or its store changes.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.status import readable
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelStatus
from ftm_operator.reconcile.adapters.beside_base import with_adapters
from ftm_operator.reconcile.adapters.preview import with_preview
from ftm_operator.reconcile.holds import Hold, no_artifact_store, suspended
from ftm_operator.reconcile.job_steps import run_job_step
from ftm_operator.reconcile.notices import notices
from ftm_operator.reconcile.passes import Context, Effects, Observed, Result, StepOutcome, Walk
from ftm_operator.reconcile.plan_choice import plan_or_hold
from ftm_operator.reconcile.prune import running_jobs, surplus_jobs
from ftm_operator.reconcile.refusals import refused
from ftm_operator.reconcile.serving import serve
from ftm_operator.reconcile.serving_children.children import owned_serving
from ftm_operator.reconcile.serving_children.loading import loading_objection
from ftm_operator.reconcile.summary import invalid_status, summarise
from ftm_operator.reconcile.versions.meanwhile import with_versions
from ftm_operator.resources.job import artifacts_source
from ftm_operator.settings import Settings
from ftm_operator.steps import STEPS
from ftm_operator.steps.step import JobStep, PipelineStep, StepInputs


def reconcile(observed: Observed, settings: Settings, now: datetime, steps: Sequence[PipelineStep] = STEPS) -> Result:
    """Returns the result of one pass. Raises nothing for any resource that an API server can hold."""
    resource = observed.resource
    if resource["metadata"].get("deletionTimestamp"):
        return Result()
    before = FineTunedModelStatus.model_validate(readable(resource.get("status") or {}))
    try:
        model = parse(FineTunedModel, resource)
    except InvalidManifest as error:
        status = invalid_status(before, resource["metadata"].get("generation", 0), str(error), now)
        return _result(observed, before, status, Walk(), steps)
    context = Context(model, before, observed, settings, now)
    walk = _with_refusals(
        context, with_adapters(context, with_preview(context, with_versions(context, _walk(context, steps))))
    )
    status = summarise(context, walk, owned_serving(context), steps)
    pruned = Effects(surplus_jobs(model, observed, steps))
    return _result(observed, before, status, replace(walk, effects=walk.effects + pruned), steps)


def _result(
    observed: Observed,
    before: FineTunedModelStatus,
    status: FineTunedModelStatus,
    walk: Walk,
    steps: Sequence[PipelineStep],
) -> Result:
    written = status.to_json()
    return Result(
        effects=walk.effects,
        status=None if written == observed.resource.get("status") else written,
        notices=notices(before, status, steps),
        retry_after=walk.hold.retry_after if walk.hold else None,
    )


def _walk(context: Context, steps: Sequence[PipelineStep]) -> Walk:
    """Runs the steps up to the first that holds."""
    if context.model.spec.suspend:
        return Walk(hold=suspended(), effects=Effects(running_jobs(context.model, context.observed)))
    store = artifacts_source(context.model, context.settings)
    if store is None:
        return Walk(hold=no_artifact_store())
    inputs, effects, outcome = StepInputs(context.model, store), Effects(), StepOutcome()
    for step in steps:
        if inputs.facts and inputs.planned is None:
            planned = plan_or_hold(context, inputs.facts)
            if isinstance(planned, Hold):
                return Walk(inputs.results, hold=planned, effects=effects)
            inputs = replace(inputs, planned=planned)
            if objection := loading_objection(context, planned.plan, store):
                return Walk(inputs.results, planned.plan, objection, effects=effects)
        outcome = _run(context, step, inputs, steps)
        inputs, effects = _after(inputs, step, outcome), effects + outcome.effects
        if outcome.hold:
            break
    return _walk_to(inputs, outcome, effects, steps)


def _with_refusals(context: Context, walk: Walk) -> Walk:
    """Returns the pass with what the API server refused as its hold, if it refused anything.

    A refusal that may pass by itself takes no place from a hold that a person must mend.
    """
    if not context.observed.refusals:
        return walk
    hold = refused(context.observed.refusals, walk.hold.phase if walk.hold else "Deploying")
    return walk if walk.hold and walk.hold.stalled and not hold.stalled else replace(walk, hold=hold)


def _run(context: Context, step: PipelineStep, inputs: StepInputs, steps: Sequence[PipelineStep]) -> StepOutcome:
    if isinstance(step, JobStep):
        return run_job_step(context, step, inputs)
    makers = [maker for maker in steps if isinstance(maker, JobStep)]
    served = next(iter(inputs.models[-1:]), None)
    maker = next((maker for maker in makers if served and inputs.results[maker.name].artifact is served), None)
    return serve(context, step, maker, inputs)


def _after(inputs: StepInputs, step: PipelineStep, outcome: StepOutcome) -> StepInputs:
    """Returns what the next step works from: with the step's result, and with the plan as the step changed it."""
    if outcome.result:
        inputs = inputs.with_result(step.name, outcome.result)
    if outcome.plan and inputs.planned:
        inputs = replace(inputs, planned=replace(inputs.planned, plan=outcome.plan))
    return inputs


def _walk_to(inputs: StepInputs, outcome: StepOutcome, effects: Effects, steps: Sequence[PipelineStep]) -> Walk:
    """Returns how far the pass came; of an artifact that was lost, the results of its step and the later ones go."""
    names = [step.name for step in steps]
    forgotten = tuple(names[names.index(outcome.lost) :]) if outcome.lost else ()
    plan = inputs.planned.plan if inputs.planned else None
    return Walk(inputs.without(forgotten).results, plan, outcome.hold, forgotten, effects, outcome.versions)
