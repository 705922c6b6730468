"""Draws conclusions for the plan from the engine's start, and names the log that is to be read for them. Pure.

A start that succeeds is read once, from the beginning of the log of a pod that answers. Of a start that fails the
container's last words tell, or else the end of its log: vLLM's API server ends in a traceback of its own that is longer
than what Kubernetes keeps of last words. A failed start for lack of memory is answered by one new plan for what
the spec asks; after that a person must act.

A pod counts if it was made from the present template of what serves, and a plan is proven once a pod of that template
has started: whatever fails later is no matter of sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Artifacts, FineTunedModelSpec, Measured, Plan, Shortage
from ftm_operator.engines.vllm import ENGINE
from ftm_operator.engines.vllm import NAME as CONTAINER
from ftm_operator.planning.decision import Decision, decide
from ftm_operator.planning.feedback.engine_log import (
    Lack,
    correction_bytes,
    estimated_kv_cache_bytes,
    found_and_planned,
    lack_in,
    planned_kv_cache_bytes,
    what_to_do,
)
from ftm_operator.planning.feedback.measurements import Measurement, Measurements, corrections, revision_of
from ftm_operator.planning.feedback.start_parts import StartParts
from ftm_operator.planning.input_hashes import merged_key
from ftm_operator.planning.sizing.request import Correction
from ftm_operator.reconcile.holds import Hold
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.serving.serving_labels import answers

DECIDES_MEMORY = (
    "adapters",
    "accelerator_class",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "dtype",
    "group_size",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "gpu_memory_utilization",
)
"""The fields of a plan that change how much memory the engine takes of a GPU, or finds there."""


@dataclass(frozen=True)
class EngineLog:
    """A part of the log of an engine's container that is to be read."""

    pod: str
    failed: bool
    """The end of a run that ended, rather than the beginning of the one that goes on."""
    previous: bool = field(default=False, compare=False)
    """True where the container has been started again since."""
    container: str = field(default=CONTAINER, compare=False)


@dataclass(frozen=True)
class EngineMemory:
    """The memory that a log tells of: measured at a start that succeeded, lacking at one that failed."""

    measured: Measured | None = None
    parts: StartParts | None = None
    """The seconds of the start, by part."""
    lack: Lack | None = None


def current(child: Manifest, pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns the pods that are made from the present template of what serves and are not on their way out."""
    wanted = template_hash(answering_template(child))
    return [
        pod for pod in pods if wanted and template_hash(pod) == wanted and "deletionTimestamp" not in pod["metadata"]
    ]


def is_proven(plan: Plan, child: Manifest) -> bool:
    """Tells whether vLLM has started under this plan; other engines are not asked."""
    template = template_hash(answering_template(child))
    return plan.engine != ENGINE or (plan.measured is not None and plan.measured.input_hash == template)


def started(pods: Sequence[Manifest], container: str = CONTAINER) -> EngineLog | None:
    """Returns the log of the first pod that answers; `container` is its engine's."""
    ready = (pod["metadata"]["name"] for pod in pods if answers(pod) and _engine(pod, container).get("ready"))
    return next((EngineLog(name, failed=False, container=container) for name in ready), None)


def failed_start(
    pods: Sequence[Manifest], engine_memory: Mapping[EngineLog, EngineMemory]
) -> tuple[EngineLog | None, Lack | None]:
    """Returns the log that may tell why the engine does not start, and the lack of memory, if that is why."""
    unread_log = None
    for pod in pods:
        container = _engine(pod)
        if container.get("ready"):
            continue
        for previous, state in ((False, container.get("state")), (True, container.get("lastState"))):
            ended = (state or {}).get("terminated") or {}
            if not ended.get("exitCode"):
                continue
            log = EngineLog(pod["metadata"]["name"], failed=True, previous=previous)
            if lack := lack_in(str(ended.get("message") or "")) or engine_memory.get(log, EngineMemory()).lack:
                return (log if log in engine_memory else None), lack
            unread_log = unread_log or log
            break
    return unread_log, None


def measurement(plan: Plan, served: str, engine: str, measured: Measured, now: datetime) -> Measurement | None:
    """Returns what is kept for later plans of what is served, named by an artifact's key or a base's digest.

    Returns None where no kind of GPU is known, or the engine did not say.
    """
    estimated = estimated_kv_cache_bytes(plan)
    if estimated is None or plan.accelerator_class is None or measured.kv_cache_bytes is None:
        return None
    return Measurement(
        artifact=served,
        accelerator=plan.accelerator_class,
        tensor_parallel=plan.tensor_parallel_size or 1,
        pipeline_parallel=plan.pipeline_parallel_size or 1,
        engine=engine,
        estimated_bytes=estimated,
        measured_bytes=measured.kv_cache_bytes,
        weight_bytes=measured.weight_bytes,
        at=now.isoformat(timespec="seconds"),
        estimate=revision_of(plan),
    )


def corrections_of(
    spec: FineTunedModelSpec,
    facts: Facts,
    built: Artifacts | None,
    measurements: Measurements,
    engine: str,
    shortage: Shortage | None,
) -> tuple[Correction, ...]:
    """Returns the corrections of the next plan: by measurements of its artifact, then by a failed start."""
    measured = corrections(measurements, _artifact_key(spec, facts, built), engine)
    if shortage is None:
        return measured
    sizes = shortage.accelerator_class, shortage.tensor_parallel_size, shortage.pipeline_parallel_size
    return (*measured, Correction(*sizes, shortage.correction_bytes))


def can_be_planned_anew(plan: Plan, lack: Lack) -> bool:
    """Tells whether another plan may help: once, if this one is sized, and unless something else holds the memory."""
    return bool(plan.memory and plan.accelerator_class and not plan.shortage and lack.free_share is None)


def shortage(plan: Plan, lack: Lack) -> Shortage:
    """Returns the failed start as the next plan keeps it."""
    return Shortage(
        accelerator_class=str(plan.accelerator_class),
        tensor_parallel_size=plan.tensor_parallel_size or 1,
        pipeline_parallel_size=plan.pipeline_parallel_size or 1,
        planned_bytes=planned_kv_cache_bytes(plan),
        found_bytes=lack.found_bytes,
        correction_bytes=correction_bytes(plan, lack.found_bytes),
    )


def is_another_trial(plan: Plan, other: Plan) -> bool:
    """Tells whether the engine would take or find other amounts of memory under the other plan."""
    return any(getattr(plan, name) != getattr(other, name) for name in DECIDES_MEMORY)


def planned_anew(plan: Plan, lack: Lack, other: Plan) -> tuple[Plan, Hold]:
    """Returns the new plan with its reason, and the hold that lasts until it is rolled out."""
    sizes = f"{other.gpus} x {other.accelerator_class}, {other.max_model_len} tokens of context"
    why = f"{found_and_planned(plan, lack)}; planned anew: {sizes}"
    new = other.model_copy(update={"input_hash": plan.input_hash, "reasons": (*other.reasons, why)})
    return new, Hold("Deploying", OperatorReason.ENGINE_OUT_OF_MEMORY, why, retry_after=1.0)


def out_of_memory(plan: Plan, lack: Lack, refused: str | None = None) -> Hold:
    """Returns the hold after which a person must act. `refused` says why there is no other plan."""
    parts = [found_and_planned(plan, lack), *([f"no other plan fits: {refused}"] if refused else [])]
    message = "; ".join([*parts, what_to_do(plan, lack)])
    return Hold("Failed", OperatorReason.ENGINE_OUT_OF_MEMORY, message, stalled=True)


def _artifact_key(spec: FineTunedModelSpec, facts: Facts, built: Artifacts | None) -> str | None:
    """Returns the key of what the next plan serves, or the base's digest where that is served as it is stored."""
    if spec.mode == "Dynamic":
        return facts.base.digest
    key = merged_key(spec, facts)
    decision = decide(spec, facts.base, spec.serving.tensor_parallel_size or 1)
    if isinstance(decision, Decision) and not decision.quantizes:
        return key
    is_of_this_merge = built and built.quantized and built.merged and built.merged.key == key
    return built.quantized.key if built and built.quantized and is_of_this_merge else None


def _engine(pod: Manifest, name: str = CONTAINER) -> Manifest:
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    engine: Manifest = next((status for status in containers if status.get("name") == name), {})
    return engine
