"""Writes a FineTunedAdapter's status, which nothing else does. Pure.

A Hold becomes Ready=False with its reason, and Stalled=True or Reconciling=True; no Hold is Ready=True.
"""

from dataclasses import dataclass
from datetime import datetime

from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter, FineTunedAdapterStatus
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.reconcile.adapters.holding import Holding
from ftm_operator.reconcile.conditions import readiness, updated
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Effects
from ftm_operator.resources.serving.service import endpoint

NOTHING = Effects()


@dataclass(frozen=True)
class AdapterOutcome:
    """The end of a pass over an adapter."""

    kept: FineTunedAdapterStatus
    """The former status, with what is kept of the adapter now."""
    hold: Hold | None
    """The reason that the adapter is not served as its spec says, if there is one."""
    effects: Effects = NOTHING


def summarise(
    adapter: FineTunedAdapter, outcome: AdapterOutcome, held: Holding, model: FineTunedModel | None, now: datetime
) -> FineTunedAdapterStatus:
    """Returns the status after a pass. `held` is what engines hold of the adapter, beside the model if there is one."""
    generation, kept = adapter.metadata.generation, outcome.kept
    observations = readiness(outcome.hold, _served(adapter, held))
    serving = held.serving if model else None
    return kept.model_copy(
        update={
            "observed_generation": generation,
            "conditions": tuple(updated(kept.conditions, observations, generation, now)),
            "served_name": adapter.served_name,
            "endpoint": endpoint(model) if model and serving else None,
            "pods": held.count if model else None,
            "serving": serving,
            "effect": held.effect,
        }
    )


def invalid_status(
    before: FineTunedAdapterStatus, generation: int, message: str, now: datetime
) -> FineTunedAdapterStatus:
    """Returns the status of an adapter that the operator cannot read: an older CRD let it in."""
    hold = Hold("Failed", OperatorReason.INVALID_SPEC, message, stalled=True)
    conditions = tuple(updated(before.conditions, readiness(hold, ""), generation, now))
    return before.model_copy(update={"observed_generation": generation, "conditions": conditions})


def _served(adapter: FineTunedAdapter, held: Holding) -> str:
    count = len(held.pods)
    pods = "1 pod answers" if count == 1 else f"{count} pods answer"
    return "; ".join((f'{pods} for "{adapter.served_name}"', *held.remarks))
