"""Runs the step that serves: applies the children, reads their rollout and answers a failed start. Pure.

Nothing that serves is touched before its successor is built and verified: this step runs after all the others.
"""

from dataclasses import replace

from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.observe.rollout import RollingOut, has_rolled_out, replicas
from ftm_operator.observe.warnings import Subject, explained
from ftm_operator.planning.rollout import Rollout, choose_rollout
from ftm_operator.reconcile.adapters.at_start import artifacts_at_start
from ftm_operator.reconcile.engine_start import answered_shortage, measured
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.lost_artifacts import lost_artifact
from ftm_operator.reconcile.passes import Context, Effects, StepOutcome
from ftm_operator.reconcile.plan_choice import absent_class
from ftm_operator.reconcile.serving_children.children import serving_children
from ftm_operator.reconcile.serving_children.served_verification import held_by_verdict, reference_of
from ftm_operator.reconcile.versions.course import choose_course
from ftm_operator.reconcile.versions.stable import RolledVersion, roll_out
from ftm_operator.resources.metadata import Manifest, belongs_to
from ftm_operator.resources.serving.deployment import deployment, surges
from ftm_operator.resources.serving.engine import ServedModel, ServedWeights, built_weights, stored_weights
from ftm_operator.resources.serving.kept_template import inputs_hash, kept_back, key_of, with_kept_templates
from ftm_operator.resources.serving.leader_worker_set import leader_worker_set
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.versions.stored_version import version_of
from ftm_operator.steps.publish import PUBLISH
from ftm_operator.steps.step import JobStep, PipelineStep, StepInputs, StepResult


def serve(context: Context, step: PipelineStep, maker: JobStep | None, inputs: StepInputs) -> StepOutcome:
    """Returns the children that are to be applied, and what their rollout waits for, if it waits.

    `maker` is the step that made the model that is served; None where the base is.
    """
    model, plan = context.model, inputs.chosen_plan.plan
    started_with = artifacts_at_start(context, plan, inputs.inspected_facts.base.digest)
    if isinstance(started_with, Hold):
        return StepOutcome(hold=started_with)
    reference = reference_of(context, plan, inputs)
    served = ServedModel(
        model, plan, inputs.inspected_facts, _weights(inputs), inputs.store, None, reference, started_with
    )
    way = choose_rollout(model.spec.serving, plan, context.observed.accelerators)
    wanted, back = _wanted(context, served, way)
    version = version_of(wanted, served)
    course = choose_course(context, version)
    rolled = roll_out(context, course, step)
    if rolled.hold or rolled.state is None:
        hold = _first(course.hold, rolled.hold)
        return StepOutcome(hold=hold, effects=rolled.effects, versions=rolled.versions)
    own = course.is_of_spec
    if isinstance(rolled.state, RollingOut):
        state, unexplained = _told(context, rolled, (way.said, _room(plan)) if own else (), plan if own else None)
        lost = lost_artifact(context, maker, inputs, state.lost_at) if own and maker and state.lost_at else None
        shortage = answered_shortage(context, inputs, rolled.live, rolled.pods) if own else StepOutcome()
        outcome = lost or _with_hold(shortage, step, _saying(state, course.said))
        outcome = replace(outcome, effects=Effects(unexplained=unexplained) + outcome.effects)
    else:
        replaced = Effects((rolled.surplus,) if rolled.surplus else ())
        outcome = measured(context, inputs, rolled.live, rolled.pods) if own else StepOutcome()
        said = rolled.state.message, back if own else "", *rolled.said, course.said
        result = StepResult(message="; ".join(filter(None, said)))
        outcome = replace(
            outcome, result=result, hold=next(iter(rolled.refusals), None), effects=replaced + outcome.effects
        )
    hold = _first(course.hold, outcome.hold)
    return replace(outcome, hold=hold, effects=rolled.effects + outcome.effects, versions=rolled.versions)


def _first(of_course: Hold | None, of_child: Hold | None) -> Hold | None:
    """Returns what holds the versions, with what holds the child that serves; a child that is stalled comes first."""
    if of_course is None or of_child is None:
        return of_course or of_child
    first, later = (of_child, of_course) if of_child.stalled and not of_course.stalled else (of_course, of_child)
    return replace(first, message=f"{first.message}; {later.message}", retry_after=of_course.retry_after)


def _told(
    context: Context, rolled: RolledVersion, of_replaced: tuple[str, ...], plan: Plan | None
) -> tuple[RollingOut, Subject | None]:
    """Returns the state of a rollout with all that is to be said of it, and the object whose Events may tell more."""
    assert isinstance(rolled.state, RollingOut)
    unexplained, warning = explained(rolled.state.unexplained, context.observed.warnings)
    news = of_replaced if replicas(rolled.live).surplus > 0 else ()
    absent = absent_class(context, plan) if plan else ""
    refused = (each.message for each in rolled.refusals)
    return held_by_verdict(context, _saying(rolled.state, warning, *news, absent, *refused)), unexplained


def _weights(inputs: StepInputs) -> ServedWeights:
    """Returns the model that was made last, or the base where none was."""
    if inputs.models:
        loading, published = inputs.model.spec.serving.loading, inputs.results.get(PUBLISH.name)
        image = published.image if published and loading == "Image" else None
        return built_weights(inputs.models[-1], inputs.store, image=image, streamed=loading == "Stream")
    return stored_weights(inputs.model, inputs.inspected_facts.base)


def _wanted(context: Context, served: ServedModel, way: Rollout) -> tuple[Manifest, str]:
    """Returns the child as the spec means it, and what to say of a newer version of its pods that is not rolled out.

    Its strategy follows the GPUs that come and go only while there is something to roll out, unless the spec says it.
    Pods of a canary stay as they are once they take the place of the others.
    """
    made = _made(context, served, surge=way.surge)
    live, _ = serving_children(context, made["kind"])
    for canary in context.observed.canaries:
        if key_of(canary) == inputs_hash(served) and not context.settings.rollout_on_upgrade:
            made = with_kept_templates(made, canary, served, was_served=False)
    if live is None or not belongs_to(live, context.model):
        return made, ""
    wanted = _kept(context, served, live, made)
    if not way.asked and surges(live) is not way.surge:
        rolling_out = replicas(live).surplus > 0 or _template_hash(live) != _template_hash(wanted)
        if not rolling_out:
            wanted = _kept(context, served, live, _made(context, served, surge=surges(live)))
    return wanted, kept_back(wanted, made)


def _made(context: Context, served: ServedModel, *, surge: bool) -> Manifest:
    """Returns the child as the installation makes it."""
    if served.plan.nodes:
        return leader_worker_set(served, context.settings, surge=surge)
    return deployment(served, context.settings, context.observed.deployment, surge=surge)


def _kept(context: Context, served: ServedModel, live: Manifest, made: Manifest) -> Manifest:
    """Returns the child with the pods that it has, if they have answered and only the installation changed since."""
    if context.settings.rollout_on_upgrade or not has_rolled_out(live):
        return made
    generation = context.model.metadata.generation
    ready = (each for each in context.before.conditions if each.type == "Ready" and each.status == "True")
    was_served = any(each.observed_generation == generation for each in ready)
    return with_kept_templates(made, live, served, was_served=was_served)


def _room(plan: Plan) -> str:
    return f"the new ones take adapters up to rank {plan.adapters.max_rank}" if plan.adapters else ""


def _template_hash(child: Manifest) -> str | None:
    return template_hash(answering_template(child))


def _saying(state: RollingOut, *words: str) -> RollingOut:
    return replace(state, message="; ".join((state.message, *filter(None, words))))


def _with_hold(outcome: StepOutcome, step: PipelineStep, state: RollingOut) -> StepOutcome:
    """Returns the outcome with the hold of the rollout, unless it has one of its own."""
    phase = "Failed" if state.stalled else step.phase
    return replace(outcome, hold=outcome.hold or Hold(phase, state.reason, state.message, state.stalled))
