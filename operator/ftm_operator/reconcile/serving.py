"""Runs the step that serves: applies the children, reads their rollout and answers a failed start. Pure.

Nothing that serves is touched before its successor is built and verified: this step runs after all the others.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.observe.drift import difference
from ftm_operator.observe.rollout import RollingOut, has_rolled_out, replicas, rollout
from ftm_operator.observe.warnings import subject_of
from ftm_operator.planning.rollout import Rollout, choose_rollout
from ftm_operator.reconcile.engine_start import answered_shortage, measured
from ftm_operator.reconcile.holds import Hold, name_taken
from ftm_operator.reconcile.lost_artifacts import lost_artifact
from ftm_operator.reconcile.passes import Apply, Context, Delete, Effects, StepOutcome
from ftm_operator.reconcile.plan_choice import absent_class
from ftm_operator.resources.metadata import COMPONENT, NAME, Manifest, belongs_to
from ftm_operator.resources.resource_claim import claims_devices, lacks_claim
from ftm_operator.resources.resource_claim import template as claim_template
from ftm_operator.resources.serving.deployment import deployment, surges
from ftm_operator.resources.serving.disruption_budget import disruption_budget
from ftm_operator.resources.serving.engine import ServedModel
from ftm_operator.resources.serving.kept_template import kept_back, with_kept_templates
from ftm_operator.resources.serving.leader_worker_set import leader_worker_set
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.serving.service import service
from ftm_operator.resources.serving.serving_labels import service_selector
from ftm_operator.steps.step import JobStep, PipelineStep, StepInputs, StepResult


def serve(context: Context, step: PipelineStep, maker: JobStep, inputs: StepInputs) -> StepOutcome:
    """Returns the children that are to be applied, and what their rollout waits for, if it waits.

    `maker` is the step that made the model that is served.
    """
    model, plan, observed = context.model, inputs.chosen_plan.plan, context.observed
    served = ServedModel(model, plan, inputs.inspected_facts, inputs.models[-1], inputs.store.secret_name)
    way = choose_rollout(model.spec.serving, plan, observed.accelerators)
    live, other = _serving_children(context, plan)
    wanted, back = _wanted(context, served, live, way)
    budget = disruption_budget(model, plan)
    names = live, observed.service, observed.disruption_budget if budget else None
    if foreign := next((child for child in names if child and not belongs_to(child, model)), None):
        return StepOutcome(hold=name_taken(foreign["kind"], foreign["metadata"]["name"]))
    pods = observed.pods(NAME, model.metadata.name)
    selector = service_selector(model, answering_template(wanted)["metadata"]["labels"][COMPONENT], pods)
    changed = _applied(context, wanted, live)
    claims: tuple[Apply, ...] = ()
    if claims_devices(plan) and (changed or lacks_claim(pods, context.now)):
        claims = (Apply(claim_template(model, plan), "the pods claim their GPUs by it"),)
    around = *_applied(context, service(model, plan, selector), observed.service), *_budgeted(context, budget)
    effects = Effects((*around, *claims, *changed))
    if changed or live is None:
        hold = Hold(step.phase, step.running, f"the {wanted['kind']} is being applied")
        return StepOutcome(hold=hold, effects=effects)
    state = rollout(live, pods)
    if isinstance(state, RollingOut):
        is_replaced = replicas(live).surplus > 0
        unexplained = subject_of(state.unexplained) if state.unexplained else None
        effects += Effects(unexplained=unexplained)
        warning = observed.warnings.get(unexplained, "") if unexplained else ""
        state = _saying(state, warning, way.said if is_replaced else "", absent_class(context, plan))
        lost = lost_artifact(context, maker, inputs, state.lost_at) if state.lost_at else None
        outcome = lost or _with_hold(answered_shortage(context, inputs, live, pods), step, state)
    else:
        replaced = Effects((Delete(other),) if other else ())
        outcome = measured(context, inputs, live, pods)
        message = "; ".join(filter(None, (state.message, back)))
        outcome = replace(outcome, result=StepResult(message=message), effects=replaced + outcome.effects)
    return replace(outcome, effects=effects + outcome.effects)


def _wanted(context: Context, served: ServedModel, live: Manifest | None, way: Rollout) -> tuple[Manifest, str]:
    """Returns the wanted child, and what to say of a newer version of its pods that is not rolled out.

    Its strategy follows the GPUs that come and go only while there is something to roll out, unless the spec says it.
    """
    made = _made(context, served, surge=way.surge)
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


def _template_hash(child: Manifest) -> str | None:
    return template_hash(answering_template(child))


def owned_serving(context: Context) -> list[Manifest]:
    """Returns the children that serve the model now, which are two while one kind takes over from the other."""
    children = (context.observed.deployment, context.observed.leader_worker_set)
    return [child for child in children if child and belongs_to(child, context.model)]


def _serving_children(context: Context, plan: Plan) -> tuple[Manifest | None, Manifest | None]:
    """Returns the live child of the wanted kind, and the one of the other kind that is still there from before."""
    live, other = context.observed.deployment, context.observed.leader_worker_set
    if plan.nodes:
        live, other = other, live
    stays = other and belongs_to(other, context.model) and "deletionTimestamp" not in other["metadata"]
    return live, other if stays else None


def _applied(context: Context, desired: Manifest, live: Manifest | None) -> Sequence[Apply]:
    why = difference(desired, live, partial(context.observed.contested, desired["kind"]))
    return (Apply(desired, why),) if why else ()


def _budgeted(context: Context, wanted: Manifest | None) -> Sequence[Apply | Delete]:
    """Returns what makes the wanted budget, or removes one that is no longer asked for."""
    live = context.observed.disruption_budget
    if wanted:
        return _applied(context, wanted, live)
    goes = live and belongs_to(live, context.model) and "deletionTimestamp" not in live["metadata"]
    return (Delete(live),) if live and goes else ()


def _saying(state: RollingOut, *words: str) -> RollingOut:
    return replace(state, message="; ".join((state.message, *filter(None, words))))


def _with_hold(outcome: StepOutcome, step: PipelineStep, state: RollingOut) -> StepOutcome:
    """Returns the outcome with the hold of the rollout, unless it has one of its own."""
    phase = "Failed" if state.stalled else step.phase
    return replace(outcome, hold=outcome.hold or Hold(phase, state.reason, state.message, state.stalled))
