"""The one writer of a FineTunedModel's status, and of the Events that tell of its changes. Pure.

A Hold becomes Ready=False with its reason, and Stalled=True or Reconciling=True; no Hold is Ready=True. Events are the
changes of conditions between the status before and after, with the same reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.verification import Check, Verification
from ftm_operator.api.reasons import Reason
from ftm_operator.api.v1alpha1 import Artifacts, FineTunedModel, FineTunedModelStatus, Phase, Plan, Sources
from ftm_operator.observe.rollout import replicas
from ftm_operator.reconcile.conditions import Observation, updated
from ftm_operator.resources.deployment import selector
from ftm_operator.resources.event import Notice
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.service import endpoint


@dataclass(frozen=True)
class Hold:
    """Why a resource is not served as its spec says."""

    phase: Phase
    reason: str
    message: str
    stalled: bool = False
    """A person must act."""
    retry_after: float | None = None
    """Seconds until it is tried again without anything having changed."""


@dataclass
class Progress:
    """What the steps of a pass yielded, up to the one that held it."""

    inspection: str | None = None
    facts: Facts | None = None
    plan: Plan | None = None
    merged: Artifact | None = None
    not_quantized: bool = False
    """The merged model is what is served."""
    quantized: Artifact | None = None
    quantized_input_hash: str | None = None
    notes: tuple[str, ...] | None = None
    """Of the quantizer."""
    report: Artifact | None = None
    """Of the verification."""
    verified_input_hash: str | None = None
    verification: Verification | None = None
    lost: Artifact | None = None
    """The artifact that status names is no longer in its store."""
    serving: str | None = None

    def forget(self, artifact: Artifact) -> None:
        """It was lost: it, and what was made of it, is built again."""
        self.lost, self.quantized, self.quantized_input_hash, self.notes = artifact, None, None, None
        self.report, self.verified_input_hash, self.verification = None, None, None
        if artifact == self.merged:
            self.merged = None


def summarise(
    model: FineTunedModel,
    before: FineTunedModelStatus,
    progress: Progress,
    hold: Hold | None,
    serving: Sequence[Manifest],
    now: datetime,
) -> FineTunedModelStatus:
    """The status after a pass. What an earlier pass yielded stays until it is replaced.

    `serving`: what serves, which is two children while one kind takes over from the other.
    """
    generation, found = model.metadata.generation, [replicas(child) for child in serving]
    available = _available(sum(each.available for each in found))
    observations = [*_readiness(hold, progress), *_steps(before, progress, hold), available]
    return FineTunedModelStatus(
        observed_generation=generation,
        phase=hold.phase if hold else "Ready",
        conditions=tuple(updated(before.conditions, observations, generation, now)),
        sources=Sources(input_hash=progress.inspection) if progress.facts and progress.inspection else before.sources,
        facts=progress.facts or before.facts,
        plan=progress.plan or before.plan,
        artifacts=_artifacts(before, progress),
        endpoint=endpoint(model) if serving else None,
        replicas=sum(each.all for each in found),
        ready_replicas=sum(child.get("status", {}).get("readyReplicas", 0) for child in serving),
        selector=",".join(f"{label}={value}" for label, value in selector(model).items()),
    )


def invalid_status(before: FineTunedModelStatus, generation: int, message: str, now: datetime) -> FineTunedModelStatus:
    """The status of a resource that the operator cannot read: an older CRD let it in."""
    observations = _readiness(Hold("Failed", Reason.INVALID_SPEC, message, stalled=True), Progress())
    conditions = tuple(updated(before.conditions, observations, generation, now))
    return before.model_copy(update={"observed_generation": generation, "phase": "Failed", "conditions": conditions})


def notices(before: FineTunedModelStatus, after: FineTunedModelStatus) -> tuple[Notice, ...]:
    """An Event for each step that was completed, then for a new reason why the resource is ready or is not."""
    known = {condition.type: condition for condition in before.conditions}
    stalled = any(condition.type == "Stalled" for condition in after.conditions)
    found = []
    for condition in sorted(after.conditions, key=lambda one: one.type == "Ready"):
        was = known.get(condition.type)
        if condition.type in STEPS:
            changed = condition.status == "True" and (was is None or was.status != "True")
            changed = changed and condition.reason != Reason.NOT_QUANTIZED
        elif condition.type == "Ready":
            changed = was is None or was.reason != condition.reason or (stalled and was.message != condition.message)
        else:
            changed = False
        if changed:
            warning = condition.type == "Ready" and stalled
            found.append(Notice("Warning" if warning else "Normal", condition.reason, condition.message))
    return tuple(found)


def _readiness(hold: Hold | None, progress: Progress) -> list[Observation]:
    if hold is None:
        return [Observation("Ready", "True", Reason.SERVING, progress.serving or "")]
    ready = Observation("Ready", "False", hold.reason, hold.message)
    if hold.phase == "Suspended":
        return [ready]
    kind = "Stalled" if hold.stalled else "Reconciling"
    return [ready, Observation(kind, "True", hold.reason, hold.message)]


STEPS = ("Inspected", "Merged", "Quantized", "Verified")


def _steps(before: FineTunedModelStatus, progress: Progress, hold: Hold | None) -> list[Observation]:
    """Whether each step is done; the first that is not carries what holds it."""
    if hold and hold.phase == "Suspended":
        kept = [condition for condition in before.conditions if condition.type in STEPS]
        return [Observation(one.type, one.status, one.reason, one.message) for one in kept]
    found: list[Observation] = []
    held = False
    for kind, done in zip(STEPS, (_inspected, _merged, _quantized, _verified), strict=True):
        observation = done(progress)
        if observation is None:
            reason, message = (hold.reason, hold.message) if hold and not held else (Reason.NOT_REACHED, "")
            observation = Observation(kind, "False", reason, message or "an earlier step is not done yet")
            held = True
        found.append(observation)
    return found


def _inspected(progress: Progress) -> Observation | None:
    if progress.facts is None:
        return None
    return Observation("Inspected", "True", "Inspected", _inspected_sentence(progress.facts))


def _merged(progress: Progress) -> Observation | None:
    return Observation("Merged", "True", "Merged", _built_sentence(progress.merged)) if progress.merged else None


def _quantized(progress: Progress) -> Observation | None:
    if progress.quantized:
        notes = "".join(f"; {note}" for note in (progress.notes or ())[:3])
        return Observation("Quantized", "True", "Quantized", _built_sentence(progress.quantized) + notes)
    if progress.merged and progress.not_quantized:
        return Observation("Quantized", "True", Reason.NOT_QUANTIZED, "the weights are served as they were merged")
    return None


def _verified(progress: Progress) -> Observation | None:
    verification = progress.verification
    if verification is None:
        return None
    if verification.passed:
        return Observation("Verified", "True", Reason.VERIFIED, "; ".join(map(_figure, verification.checks)))
    return Observation("Verified", "False", Reason.VERIFICATION_FAILED, failed_checks(verification))


def failed_checks(verification: Verification) -> str:
    """The figures that are beyond their bounds."""
    return "; ".join(_figure(check) for check in verification.checks if not check.passed)


def _figure(check: Check) -> str:
    return f"{check.name} {check.value:.4g} {check.unit}, bound {check.bound:.4g}"


def _built_sentence(built: Artifact) -> str:
    return f"{built.uri}: {built.files} files, {built.total_bytes:,} bytes, manifest {built.digest}"


def _artifacts(before: FineTunedModelStatus, progress: Progress) -> Artifacts | None:
    """What this pass found; what it did not reach stays as it was, but for what was lost and what was made of it."""
    found = Artifacts(
        merged=progress.merged,
        quantized=progress.quantized,
        quantized_input_hash=progress.quantized_input_hash,
        notes=progress.notes or None,
        report=progress.report,
        verified_input_hash=progress.verified_input_hash,
        verification=progress.verification,
    )
    known = before.artifacts or Artifacts()
    if progress.lost:
        known = Artifacts()
    elif progress.not_quantized or progress.quantized:
        known = known.model_copy(update={"quantized": None, "quantized_input_hash": None, "notes": None})
    new = {name: value for name, value in found if value is not None}
    return kept if (kept := known.model_copy(update=new)).to_json() else None


def _inspected_sentence(facts: Facts) -> str:
    base = facts.base
    ranks = ", ".join(str(adapter.rank) for adapter in facts.adapters)
    return (
        f"{base.architecture}, {base.parameters:,} parameters in {base.dtype}; "
        f"{len(facts.adapters)} adapter{'s' if len(facts.adapters) > 1 else ''} of rank {ranks}"
    )


def _available(available: int) -> Observation:
    if available:
        return Observation(
            "Available",
            "True",
            Reason.REPLICAS_ANSWER,
            "1 replica answers" if available == 1 else f"{available} replicas answer",
        )
    return Observation("Available", "False", Reason.NO_REPLICAS, "no replica answers")
