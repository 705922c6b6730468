"""Says whether the engines that serve are what was verified, and what that holds. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.verification import ServedVerification
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import ConditionStatus, Plan
from ftm_operator.observe.adapter_pods import verdicts
from ftm_operator.observe.canary.pods import of_stable
from ftm_operator.observe.rollout import RollingOut
from ftm_operator.reconcile.conditions import Observation
from ftm_operator.reconcile.passes import Context
from ftm_operator.resources.metadata import NAME, Manifest
from ftm_operator.steps.step import StepInputs

CONDITION = "ServedVerified"
NO_REFERENCE = (
    "the verification kept no reference, as those of earlier versions: change spec.verification.prompts, so that the "
    "model is verified anew"
)
NOT_MERGED = "engines of mode Dynamic are not held against a reference: the agent in each pod proves each adapter"


def reference_of(context: Context, plan: Plan, inputs: StepInputs) -> Artifact | None:
    """Returns the reference that engines are held against; None where they are not."""
    if context.model.spec.verification.served == "Unchecked" or plan.adapters is not None:
        return None
    return next((result.reference for result in inputs.results.values() if result.reference), None)


def held_by_verdict(context: Context, state: RollingOut) -> RollingOut:
    """Returns the rollout, stalled where a pod's engine is not what was verified."""
    failed = next((verdict for verdict in _verdicts(context) if not verdict.passed), None)
    if failed is None or context.model.spec.verification.policy == "Warn":
        return state
    stalled = failed.reason == OperatorReason.SERVED_DIFFERS
    return replace(
        state,
        message=f"{state.message}; {failed.message}",
        reason=failed.reason if stalled else state.reason,
        stalled=stalled or state.stalled,
    )


def failed_verdict(context: Context, pods: Sequence[Manifest]) -> str | None:
    """Returns what is said of the first of these pods whose engine is not what was verified, unless that only warns."""
    if context.model.spec.verification.policy == "Warn":
        return None
    said = verdicts(pods, context.observed.served)
    return next((each.message for each in said if each.reason == OperatorReason.SERVED_DIFFERS), None)


def served_observation(context: Context, plan: Plan | None) -> list[Observation]:
    """Returns the condition ServedVerified, if the spec asks for it."""
    if context.model.spec.verification.served == "Unchecked":
        return []
    kept = context.before.artifacts.reference if context.before.artifacts else None
    found = _verdicts(context)
    if not found:
        if plan and plan.adapters is not None:
            return [Observation(CONDITION, "Unknown", OperatorReason.NOT_REACHED, NOT_MERGED)]
        missing = context.before.artifacts and context.before.artifacts.verification and kept is None
        message = NO_REFERENCE if missing else "no engine was held against what was verified yet"
        return [Observation(CONDITION, "Unknown", OperatorReason.NOT_REACHED, message)]
    first = found[0]
    status: ConditionStatus = "True" if first.passed else "Unknown" if not first.checks else "False"
    count = f"of {len(found)} replicas: " if len(found) > 1 else ""
    return [Observation(CONDITION, status, first.reason, f"{count}{first.message}")]


def _verdicts(context: Context) -> list[ServedVerification]:
    pods = of_stable(context.observed.pods(NAME, context.model.metadata.name))
    return verdicts(pods, context.observed.served)
