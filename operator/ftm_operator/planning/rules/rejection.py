"""Holds the answer of a rule that is broken."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """Names the rule, and says with its numbers why it is broken; `kubectl describe` shows the sentence."""

    rule: str
    reason: str
