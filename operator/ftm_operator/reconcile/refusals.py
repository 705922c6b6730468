"""Words what the API server refused to take, so that the status says it and a person can act on it. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Phase
from ftm_operator.observe.remedies import remedy
from ftm_operator.reconcile.holds import Hold, name_taken

TOO_MANY_REQUESTS = 429
_MAY_PASS = re.compile(r"exceeded quota|failed calling webhook|is being terminated")
_SERVER_ERROR = 500
_UNDECLARED = "field not declared in schema"
"""The answer to an apply of a field that a kind does not have, with status 500."""


@dataclass(frozen=True)
class Refusal:
    """A child that the API server did not take, and its words."""

    kind: str
    name: str
    status: int = 0
    """The HTTP status of the answer; 0 where it was not asked, because an object of somebody else has the name."""
    message: str = ""


def refused(refusals: Sequence[Refusal], phase: Phase) -> Hold:
    """Returns the hold of a pass whose writes were refused: the first of them counts, `phase` is the pass's own.

    It is stalled unless time alone may change the answer: a quota that others free, a webhook that comes back.
    """
    first = refusals[0]
    if not first.status:
        return name_taken(first.kind, first.name)
    said = first.message.rstrip(". ") or f"status {first.status}"
    advice = remedy(said) or "correct what it names"
    others = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    message = f"the API server refuses {first.kind} {first.name}{others}: {said}; {advice}"
    is_busy = first.status >= _SERVER_ERROR and _UNDECLARED not in said
    if is_busy or first.status == TOO_MANY_REQUESTS or _MAY_PASS.search(said):
        return Hold(phase, OperatorReason.CHILD_REFUSED, message)
    return Hold("Failed", OperatorReason.CHILD_REFUSED, message, stalled=True)
