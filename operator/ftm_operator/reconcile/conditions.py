"""A FineTunedModel's conditions, by the rules of kstatus. Pure.

Ready, Inspected, Merged and Available are always there; Reconciling and Stalled exist only while they are True, never
both, and then Ready is False. Each condition carries the generation that it speaks of, and lastTransitionTime moves
only when its status does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ftm_operator.api.v1alpha1 import Condition, ConditionStatus


@dataclass(frozen=True)
class Observation:
    """What one condition should say."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def updated(
    before: Sequence[Condition], observations: Sequence[Observation], generation: int, now: datetime
) -> list[Condition]:
    """The conditions that say what was observed, keeping the times of those whose status is unchanged."""
    known = {condition.type: condition for condition in before}
    return [
        Condition(
            type=seen.type,
            status=seen.status,
            reason=seen.reason,
            message=seen.message,
            observed_generation=generation,
            last_transition_time=(
                known[seen.type].last_transition_time
                if seen.type in known and known[seen.type].status == seen.status
                else now.replace(microsecond=0)
            ),
        )
        for seen in observations
    ]
