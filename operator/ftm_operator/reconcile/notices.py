"""Words the Events that tell of a change of status, with the conditions' own reasons. Pure."""

from collections.abc import Mapping, Sequence

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Condition, FineTunedModelStatus, Start
from ftm_operator.observe.start_time import has_parts, is_told, said_of_start
from ftm_operator.reconcile.serving_children.served_verification import CONDITION as SERVED_VERIFIED
from ftm_operator.resources.event import Notice
from ftm_operator.steps.step import JobStep, PipelineStep

DONE_WITHOUT = (
    OperatorReason.NOT_MERGED,
    OperatorReason.NOT_QUANTIZED,
    OperatorReason.NOT_VERIFIED,
    OperatorReason.NOT_PUBLISHED,
)
"""Reasons of steps that the plan does without."""


def notices(
    before: FineTunedModelStatus, after: FineTunedModelStatus, steps: Sequence[PipelineStep]
) -> tuple[Notice, ...]:
    """Returns an Event for each step that was completed, then one for a new verdict on the engines that serve, one for
    a new reason of Ready, and one for a start."""
    earlier = {condition.type: condition for condition in before.conditions}
    built = {step.condition for step in steps if isinstance(step, JobStep)}
    completed = [
        Notice("Normal", condition.reason, condition.message)
        for condition in after.conditions
        if condition.type in built and _is_completed(earlier.get(condition.type), condition)
    ]
    verdict = _new_verdict(earlier, {condition.type: condition for condition in after.conditions})
    ready = news_of_ready(before.conditions, after.conditions)
    return (*completed, *verdict, *ready, *_news_of_start(before.start, after.start))


def news_of_ready(before: Sequence[Condition], after: Sequence[Condition]) -> tuple[Notice, ...]:
    """Returns an Event for a new reason of Ready, or for another sentence of one that a person must mend."""
    stalled = any(condition.type == "Stalled" for condition in after)
    former = next((condition for condition in before if condition.type == "Ready"), None)
    return tuple(
        Notice("Warning" if stalled else "Normal", condition.reason, condition.message)
        for condition in after
        if condition.type == "Ready" and _is_news(former, condition, stalled=stalled)
    )


def _new_verdict(before: Mapping[str, Condition], after: Mapping[str, Condition]) -> list[Notice]:
    """Returns an Event for another verdict on the engines, unless that of Ready tells it."""
    verdict, ready = after.get(SERVED_VERIFIED), after.get("Ready")
    if verdict is None or verdict.reason in (OperatorReason.NOT_REACHED, ready.reason if ready else None):
        return []
    former = before.get(SERVED_VERIFIED)
    if former and former.reason == verdict.reason:
        return []
    return [Notice("Normal" if verdict.status == "True" else "Warning", verdict.reason, verdict.message)]


def _news_of_start(before: Start | None, after: Start | None) -> tuple[Notice, ...]:
    """Returns an Event once it is known where the time of the present version's start went."""
    if after is None or not has_parts(after) or (before and is_told(before, after.input_hash)):
        return ()
    return (Notice("Normal", OperatorReason.STARTED, said_of_start(after)),)


def _is_completed(before: Condition | None, after: Condition) -> bool:
    """Tells whether a step was done since; a step that the plan does without is no news."""
    newly = after.status == "True" and (before is None or before.status != "True")
    return newly and after.reason not in DONE_WITHOUT


def _is_news(before: Condition | None, after: Condition, *, stalled: bool) -> bool:
    return before is None or before.reason != after.reason or (stalled and before.message != after.message)
