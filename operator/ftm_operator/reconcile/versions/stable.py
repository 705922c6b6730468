"""Rolls out a version: applies the child that serves and what stands around it, and reads how far it is. Pure."""

from dataclasses import dataclass

from ftm_operator.observe.canary.pods import of_stable
from ftm_operator.observe.rollout import RolledOut, RollingOut, rollout
from ftm_operator.planning.rollout import choose_rollout
from ftm_operator.reconcile.holds import Hold, name_taken
from ftm_operator.reconcile.passes import Action, Apply, Context, Delete, Effects, ServedVersions
from ftm_operator.reconcile.serving_children.around import applied, deleted
from ftm_operator.reconcile.serving_children.children import serving_children
from ftm_operator.reconcile.serving_children.replica_count import (
    chosen_replicas,
    handed_over,
    replicas_of,
    said_of_replicas,
)
from ftm_operator.reconcile.serving_children.routes import routing
from ftm_operator.reconcile.serving_children.scalers import scaling
from ftm_operator.reconcile.serving_children.served_names import served_names
from ftm_operator.reconcile.versions.course import Course
from ftm_operator.reconcile.versions.listed import canary_writes, history_writes, served_versions
from ftm_operator.resources.metadata import COMPONENT, NAME, Manifest, belongs_to
from ftm_operator.resources.resource_claim import claims_devices, lacks_claim
from ftm_operator.resources.resource_claim import template as claim_template
from ftm_operator.resources.serving.deployment import surges
from ftm_operator.resources.serving.disruption_budget import disruption_budget
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.serving.service import service
from ftm_operator.resources.serving.serving_labels import service_selector
from ftm_operator.resources.versions.stored_version import StoredVersion, stable_child, with_surge
from ftm_operator.steps.step import PipelineStep


@dataclass(frozen=True)
class RolledVersion:
    """The state of the version that serves, and what is to be written of it."""

    live: Manifest
    """The child as it is, or as it is to be where it is not there yet."""
    pods: list[Manifest]
    versions: ServedVersions
    effects: Effects
    hold: Hold | None = None
    """The reason for which its child is not looked at yet."""
    state: RolledOut | RollingOut | None = None
    """The state of its rollout; None where something holds."""
    said: tuple[str, ...] = ()
    """Remarks on what stands around it."""
    refusals: tuple[Hold, ...] = ()
    """The reasons for which what stands around it is not as the spec says."""
    surplus: Delete | None = None
    """The deletion of the child of the other kind, once this one answers."""


def roll_out(context: Context, course: Course, step: PipelineStep) -> RolledVersion:
    """Returns how far the version that is to serve is, with all writes of a pass over it and over a canary."""
    model, observed, plan = context.model, context.observed, course.stable.plan
    live, other = serving_children(context, course.stable.kind)
    count = chosen_replicas(context, live, other)
    wanted = stable_child(model, _in_its_way(context, course, live), count, live)
    everything = observed.pods(NAME, model.metadata.name)
    pods = of_stable(everything)
    versions = served_versions(context, course)
    budget = disruption_budget(model, plan, replicas_of(wanted if live is None or count.number is not None else live))
    names = live, observed.service, observed.disruption_budget if budget else None
    if foreign := next((child for child in names if child and not belongs_to(child, model)), None):
        hold = name_taken(foreign["kind"], foreign["metadata"]["name"])
        return RolledVersion(wanted, pods, versions, Effects(), hold)
    selector = service_selector(model, answering_template(wanted)["metadata"]["labels"][COMPONENT], pods)
    changed = applied(context, wanted, live)
    claims: tuple[Apply, ...] = ()
    if claims_devices(plan) and (changed or lacks_claim(everything, context.now)):
        claims = (Apply(claim_template(model, plan), "the pods claim their GPUs by it"),)
    routes, divided = routing(context, plan, selector, course.weight), served_names(context, plan)
    unasked = () if budget else deleted(context, observed.disruption_budget)
    budgeted = applied(context, budget, observed.disruption_budget) if budget else unasked
    around: tuple[Apply | Delete, ...] = *applied(context, service(model, plan, selector), observed.service), *budgeted
    beside = canary_writes(context, course)
    own: tuple[Action, ...] = *claims, *handed_over(live, count), *changed
    effects = Effects((*around, *beside, *routes.actions, *divided.actions, *own)) + course.effects
    if changed or live is None:
        hold = Hold(step.phase, step.running, f"the {wanted['kind']} is being applied")
        effects += Effects(history_writes(context, course, serves=False))
        return RolledVersion(wanted, pods, versions, effects, hold)
    state = rollout(live, pods)
    rolled_out = isinstance(state, RolledOut)
    scaler = scaling(context, plan, live, rolled_out=rolled_out)
    effects += Effects((*scaler.actions, *history_writes(context, course, serves=rolled_out)))
    said = said_of_replicas(context, live, count), scaler.words, routes.words, divided.words
    refusals = tuple(each.hold for each in (scaler, routes) if each.hold)
    surplus = Delete(other) if other and rolled_out else None
    return RolledVersion(live, pods, versions, effects, None, state, said, refusals, surplus)


def _in_its_way(context: Context, course: Course, live: Manifest | None) -> StoredVersion:
    """Returns the version that serves; one that was kept replaces pods as the GPUs allow now, if it replaces any."""
    version = course.stable
    if course.is_of_spec or live is None:
        return version
    if template_hash(answering_template(live)) == version.pods_hash:
        return with_surge(version, surge=surges(live))
    way = choose_rollout(context.model.spec.serving, version.plan, context.observed.accelerators)
    return with_surge(version, surge=way.surge)
