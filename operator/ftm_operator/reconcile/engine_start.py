"""Follows up the engine's start: keeps what it measured, or answers a lack of memory. Pure.

The log of a start that succeeded tells of memory, which the plan keeps, and of seconds, which the summary does.
"""

from collections.abc import Sequence

from ftm_operator.api.v1alpha1 import Measured, Plan
from ftm_operator.observe.start_time import is_untold
from ftm_operator.planning.feedback.measurements import Measurement
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.reconcile import engine_feedback as feedback
from ftm_operator.reconcile.passes import Context, Effects, StepOutcome
from ftm_operator.reconcile.plan_choice import new_plan
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.pod_templates import answering_template, engine_image, template_hash
from ftm_operator.resources.serving.serving_labels import engine_name
from ftm_operator.steps.step import StepInputs


def measured(context: Context, inputs: StepInputs, live: Manifest, pods: Sequence[Manifest]) -> StepOutcome:
    """Returns the plan with what the engine measured; its log is read only as long as not all is known of the start."""
    plan, is_proven = inputs.chosen_plan.plan, feedback.is_proven(inputs.chosen_plan.plan, live)
    if is_proven and not is_untold(context.before.start, live, pods, context.now):
        return StepOutcome()
    log = feedback.started(feedback.current(live, pods), engine_name(plan.engine))
    if log is None:
        return StepOutcome()
    memory = context.observed.engine_memory.get(log)
    if is_proven or memory is None or memory.measured is None:
        return StepOutcome(effects=Effects(engine_log=log))
    measured = memory.measured.model_copy(update={"input_hash": template_hash(answering_template(live))})
    kept = _kept_for_later(context, inputs, live, measured)
    return StepOutcome(
        effects=Effects(engine_log=log, measurements=kept), plan=plan.model_copy(update={"measured": measured})
    )


def answered_shortage(context: Context, inputs: StepInputs, live: Manifest, pods: Sequence[Manifest]) -> StepOutcome:
    """Returns another plan, once, or a hold for a person; neither where the engine did not fail for lack of memory."""
    plan = inputs.chosen_plan.plan
    if feedback.is_proven(plan, live):
        return StepOutcome()
    log, lack = feedback.failed_start(feedback.current(live, pods), context.observed.engine_memory)
    if lack is None:
        return StepOutcome(effects=Effects(engine_log=log))
    measurements = _kept_for_later(context, inputs, live, Measured(kv_cache_bytes=lack.found_bytes))
    effects = Effects(engine_log=log, measurements=measurements)
    if not (context.observed.accelerators and feedback.can_be_planned_anew(plan, lack)):
        return StepOutcome(hold=feedback.out_of_memory(plan, lack), effects=effects)
    other = new_plan(context, str(plan.input_hash), inputs.inspected_facts, feedback.shortage(plan, lack))
    if isinstance(other, Rejection):
        return StepOutcome(hold=feedback.out_of_memory(plan, lack, refused=other.reason), effects=effects)
    if not feedback.is_another_trial(plan, other.plan):
        return StepOutcome(hold=feedback.out_of_memory(plan, lack), effects=effects)
    new, hold = feedback.planned_anew(plan, lack, other.plan)
    return StepOutcome(hold=hold, effects=effects, plan=new)


def _kept_for_later(
    context: Context, inputs: StepInputs, live: Manifest, measured: Measured
) -> tuple[Measurement, ...]:
    plan: Plan = inputs.chosen_plan.plan
    served = inputs.models[-1].key if inputs.models else inputs.inspected_facts.base.digest
    measurement = feedback.measurement(plan, served, engine_image(live), measured, context.now)
    return (measurement,) if measurement else ()
