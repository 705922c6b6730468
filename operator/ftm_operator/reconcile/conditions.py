"""Writes the conditions of a resource by the rules of kstatus. Pure.

Ready is always there, and so is a condition of each step of a FineTunedModel; Reconciling and Stalled exist only while
they are True, never both, and then Ready is False. Each condition carries the generation that it speaks of, and
lastTransitionTime moves only when its status does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.texts import one_line
from ftm_operator.api.v1alpha1 import Condition, ConditionStatus
from ftm_operator.reconcile.holds import Hold


@dataclass(frozen=True)
class Observation:
    """The state of one condition after a pass."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def readiness(hold: Hold | None, served: str) -> list[Observation]:
    """Returns Ready, and what a hold is beside it; `served` is the message of a resource that nothing holds."""
    if hold is None:
        return [Observation("Ready", "True", OperatorReason.SERVING, served)]
    ready = Observation("Ready", "False", hold.reason, hold.message)
    if hold.phase == "Suspended":
        return [ready]
    kind = "Stalled" if hold.stalled else "Reconciling"
    return [ready, Observation(kind, "True", hold.reason, hold.message)]


def updated(
    before: Sequence[Condition], observations: Sequence[Observation], generation: int, now: datetime
) -> list[Condition]:
    """Returns the observed conditions; one whose status is unchanged keeps its time."""
    earlier = {condition.type: condition for condition in before}
    return [
        Condition(
            type=seen.type,
            status=seen.status,
            reason=seen.reason,
            message=one_line(seen.message),
            observed_generation=generation,
            last_transition_time=(
                earlier[seen.type].last_transition_time
                if seen.type in earlier and earlier[seen.type].status == seen.status
                else now.replace(microsecond=0)
            ),
        )
        for seen in observations
    ]
