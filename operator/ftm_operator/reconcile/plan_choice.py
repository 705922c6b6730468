"""Chooses the plan of a pass: the one in status as long as its inputs are the same, or a new one. Pure."""

from contextlib import suppress
from dataclasses import replace
from typing import TypeGuard

from pydantic import ValidationError

from ftm_jobs.contract.facts import AdapterFacts, Facts
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapterStatus
from ftm_operator.api.v1alpha1 import Plan, Shortage
from ftm_operator.planning.input_hashes import REFRESH_ANNOTATION, plan_input_hash
from ftm_operator.planning.memory.engine_setup import version_of_image
from ftm_operator.planning.memory.lora import RANKS
from ftm_operator.planning.plan import Planned, again, holds_rank
from ftm_operator.planning.plan import plan as make_plan
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.request import KnownEngine
from ftm_operator.reconcile.engine_feedback import corrections_of
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context
from ftm_operator.resources.metadata import owned_by


def plan_or_hold(context: Context, facts: Facts) -> Planned | Hold:
    """Returns how the model is built and served, or the rule that forbids what the spec asks for."""
    refresh = context.model.metadata.annotations.get(REFRESH_ANNOTATION)
    input_hash = plan_input_hash(context.model.spec, facts, refresh)
    kept = _kept_plan(context, input_hash, facts)
    planned = kept or new_plan(context, input_hash, facts)
    if isinstance(planned, Rejection):
        return Hold("Failed", planned.rule, planned.reason, stalled=True)
    others = adapters_of_others(context)
    if planned.plan.adapters and (kept is None or not all(holds_rank(kept.plan, each.rank) for each in others)):
        larger = new_plan(context, input_hash, facts, adapters=others)
        planned = larger if _is_better(larger, planned, is_kept=kept is not None) else planned
    return replace(planned, plan=planned.plan.model_copy(update={"input_hash": input_hash}))


def _is_better(larger: Planned | Rejection, planned: Planned, *, is_kept: bool) -> TypeGuard[Planned]:
    """Tells whether a plan with room for all FineTunedAdapters takes the place of one without, which it may not cost
    other GPUs: who may write FineTunedAdapters has no say in those.

    A plan that is kept gives way for a larger rank alone, since its engines start anew.
    """
    if isinstance(larger, Rejection) or larger.plan.adapters is None:
        return False
    sizes, larger_sizes = ((each.plan.gpus, each.plan.accelerator_class) for each in (planned, larger))
    return larger_sizes == sizes and not (is_kept and holds_rank(planned.plan, larger.plan.adapters.max_rank))


def adapters_of_others(context: Context) -> tuple[AdapterFacts, ...]:
    """Returns the facts of the FineTunedAdapters that are not the spec's own, as far as they are known and possible."""
    found = []
    for each in context.observed.adapters:
        if owned_by(each, context.model) or "deletionTimestamp" in each["metadata"]:
            continue
        with suppress(ValidationError):
            facts = FineTunedAdapterStatus.model_validate(each.get("status") or {}).facts
            found += [facts] if facts and facts.rank <= RANKS[-1] else []
    return tuple(found)


def _kept_plan(context: Context, input_hash: str, facts: Facts) -> Planned | None:
    """Returns the plan in status if it has the same inputs.

    GPUs that come and go move nothing that was planned for them: a node that is drained, or a pool that is scaled to
    zero, comes back. Only a plan that was made without GPUs, and that nothing serves by yet, is made anew for them.
    """
    plan = context.before.plan
    if plan is None or plan.input_hash != input_hash:
        return None
    unplaced = plan.accelerator_class is None and context.before.endpoint is None
    if unplaced or (plan.nodes and not context.observed.several_nodes):
        return None
    return again(context.model.spec, facts, plan)


def absent_class(context: Context, plan: Plan) -> str:
    """Returns what to say of a plan whose GPUs are not there now; nothing where they are."""
    wanted = plan.accelerator_class
    if wanted is None or wanted in {gpu.name for gpu in context.observed.accelerators}:
        return ""
    return (
        f"no node offers {wanted}, for which this was planned; it waits for one, and the annotation "
        f"{REFRESH_ANNOTATION} plans it anew"
    )


def new_plan(
    context: Context,
    input_hash: str,
    facts: Facts,
    shortage: Shortage | None = None,
    adapters: tuple[AdapterFacts, ...] = (),
) -> Planned | Rejection:
    """Returns a plan that is corrected by what engines measured and by a failed start.

    `shortage` is the failed start that the plan answers; without it, the one that the plan in status answered counts.
    `adapters`: those that there is to be room for beside the spec's own.
    """
    model, before, observed = context.model, context.before.plan, context.observed
    answered = shortage or (before.shortage if before and before.input_hash == input_hash else None)
    planned = make_plan(
        model.metadata.name,
        model.spec,
        facts,
        observed.accelerators,
        several_nodes=observed.several_nodes,
        engine=replace(_engine(context, facts, answered), adapters=adapters),
    )
    if answered and isinstance(planned, Planned):
        return replace(planned, plan=planned.plan.model_copy(update={"shortage": answered}))
    return planned


def _engine(context: Context, facts: Facts, answered: Shortage | None) -> KnownEngine:
    image, before = context.model.spec.serving.image or context.settings.vllm_image, context.before
    found = corrections_of(context.model.spec, facts, before.artifacts, context.observed.measurements, image, answered)
    return KnownEngine(version_of_image(image), found)
