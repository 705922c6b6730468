"""Words the Events that tell of a change of status, with the conditions' own reasons. Pure."""

from collections.abc import Sequence

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Condition, FineTunedModelStatus
from ftm_operator.resources.event import Notice
from ftm_operator.steps.step import JobStep, PipelineStep


def notices(
    before: FineTunedModelStatus, after: FineTunedModelStatus, steps: Sequence[PipelineStep]
) -> tuple[Notice, ...]:
    """Returns an Event for each step that was completed, then one for a new reason of Ready."""
    earlier = {condition.type: condition for condition in before.conditions}
    stalled = any(condition.type == "Stalled" for condition in after.conditions)
    built = {step.condition for step in steps if isinstance(step, JobStep)}
    completed = [
        Notice("Normal", condition.reason, condition.message)
        for condition in after.conditions
        if condition.type in built and _is_completed(earlier.get(condition.type), condition)
    ]
    ready = [
        Notice("Warning" if stalled else "Normal", condition.reason, condition.message)
        for condition in after.conditions
        if condition.type == "Ready" and _is_news(earlier.get("Ready"), condition, stalled=stalled)
    ]
    return (*completed, *ready)


def _is_completed(before: Condition | None, after: Condition) -> bool:
    """Tells whether a step was done since; a step that the plan does without is no news."""
    newly = after.status == "True" and (before is None or before.status != "True")
    return newly and after.reason != OperatorReason.NOT_QUANTIZED


def _is_news(before: Condition | None, after: Condition, *, stalled: bool) -> bool:
    return before is None or before.reason != after.reason or (stalled and before.message != after.message)
