"""Writes a FineTunedModel's status, which nothing else does. Pure.

A Hold becomes Ready=False with its reason, and Stalled=True or Reconciling=True; no Hold is Ready=True.
"""

from collections.abc import Sequence
from datetime import datetime

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModelStatus, Start
from ftm_operator.observe.canary.pods import of_stable
from ftm_operator.observe.rollout import replicas
from ftm_operator.observe.start_time import measured_start
from ftm_operator.reconcile.conditions import Observation, readiness, updated
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context, ServedVersions, Walk
from ftm_operator.reconcile.serving_children.served_verification import served_observation
from ftm_operator.resources.metadata import NAME, Manifest, belongs_to
from ftm_operator.resources.serving.service import endpoint
from ftm_operator.resources.serving.serving_labels import engine_name, service_selector
from ftm_operator.steps.step import JobStep, PipelineStep, Verdict


def summarise(
    context: Context, walk: Walk, serving: Sequence[Manifest], steps: Sequence[PipelineStep]
) -> FineTunedModelStatus:
    """Returns the status after a pass. What an earlier pass yielded stays until it is replaced or forgotten.

    `serving` are the children that serve, two while one kind takes over from the other.
    """
    model, before, counts = context.model, context.before, [replicas(child) for child in serving]
    available = sum(count.available for count in counts)
    asked = [step for step in steps if not isinstance(step, JobStep) or step.asked(model)]
    steps_observed = _step_observations(before, walk, available, asked)
    observations = (*_readiness(walk), *steps_observed, *served_observation(context, walk.plan or before.plan))
    status = _with_results(before, walk, steps)
    versions = walk.versions or ServedVersions(before.canary, before.versions or ())
    return status.model_copy(
        update={
            "observed_generation": model.metadata.generation,
            "phase": walk.hold.phase if walk.hold else "Ready",
            "conditions": tuple(updated(before.conditions, observations, model.metadata.generation, context.now)),
            "plan": walk.plan or before.plan,
            "preview": walk.preview,
            "endpoint": endpoint(model) if serving else None,
            "replicas": sum(count.all for count in counts),
            "ready_replicas": sum(child.get("status", {}).get("readyReplicas", 0) for child in serving),
            "versions": versions.versions or None,
            "canary": versions.canary,
            "start": _start(context, serving),
            "managed_by": context.settings.installation,
            "selector": ",".join(f"{label}={value}" for label, value in _selector(context, walk).items()),
        }
    )


def invalid_status(before: FineTunedModelStatus, generation: int, message: str, now: datetime) -> FineTunedModelStatus:
    """Returns the status of a resource that the operator cannot read: an older CRD let it in."""
    hold = Hold("Failed", OperatorReason.INVALID_SPEC, message, stalled=True)
    conditions = tuple(updated(before.conditions, _readiness(Walk(hold=hold)), generation, now))
    return before.model_copy(update={"observed_generation": generation, "phase": "Failed", "conditions": conditions})


def _start(context: Context, serving: Sequence[Manifest]) -> Start | None:
    """Returns how long the present version's pods took to start, and with what."""
    pods, before = of_stable(context.observed.pods(NAME, context.model.metadata.name)), context.before.start
    told = {log.pod: memory.parts for log, memory in context.observed.engine_memory.items() if memory.parts}
    return next((start for child in serving if (start := measured_start(child, pods, before, told))), before)


def _selector(context: Context, walk: Walk) -> dict[str, str]:
    """Returns the labels of the pods that answer: the Service's selector, or what it will be."""
    live, plan = context.observed.service, walk.plan or context.before.plan
    if live and belongs_to(live, context.model):
        selector: dict[str, str] = live["spec"]["selector"]
        return selector
    return service_selector(context.model, engine_name(plan.engine if plan else None), ())


def _with_results(status: FineTunedModelStatus, walk: Walk, steps: Sequence[PipelineStep]) -> FineTunedModelStatus:
    for step in steps:
        if isinstance(step, JobStep) and (step.name in walk.results or step.name in walk.forgotten):
            status = step.recorded(status, walk.results.get(step.name))
    return status


def _readiness(walk: Walk) -> list[Observation]:
    messages = (result.message for result in reversed(list(walk.results.values())) if result.message)
    return readiness(walk.hold, next(messages, ""))


def _step_observations(
    before: FineTunedModelStatus, walk: Walk, available: int, steps: Sequence[PipelineStep]
) -> list[Observation]:
    """Returns each step's condition; the first step that is not done carries what holds it."""
    waiting = iter([walk.hold] if walk.hold else [])
    observations = []
    for step in steps:
        if not isinstance(step, JobStep):
            observations.append(_available(step, available))
        elif walk.hold and walk.hold.phase == "Suspended":
            observations += [
                Observation(condition.type, condition.status, condition.reason, condition.message)
                for condition in before.conditions
                if condition.type == step.condition
            ]
        elif step.name in walk.results:
            verdict = step.verdict(walk.results[step.name])
            observations.append(_done(step, verdict))
        else:
            observations.append(_not_done(step, next(waiting, None)))
    return observations


def _done(step: PipelineStep, verdict: Verdict) -> Observation:
    return Observation(step.condition, "True" if verdict.good else "False", verdict.reason, verdict.message)


def _not_done(step: PipelineStep, hold: Hold | None) -> Observation:
    reason, message = (hold.reason, hold.message) if hold else (OperatorReason.NOT_REACHED, "")
    return Observation(step.condition, "False", reason, message or "an earlier step is not done yet")


def _available(step: PipelineStep, available: int) -> Observation:
    if not available:
        return Observation(step.condition, "False", OperatorReason.NO_REPLICAS, "no replica answers")
    count = "1 replica answers" if available == 1 else f"{available} replicas answer"
    return Observation(step.condition, "True", OperatorReason.REPLICAS_ANSWER, count)
