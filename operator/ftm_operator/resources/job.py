"""The Jobs of the steps: inspect, merge, quantize and verify.

Kubernetes retries a pod that exits 1 and gives up at once on one that exits 2 (the input is wrong) or was killed (it
needs more memory); a pod that was evicted or preempted does not count. A Job's name holds its attempt: a later attempt
is another Job.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.steps import ExitCode, Step
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.metadata import (
    ARTIFACT,
    ATTEMPT,
    GENERATION,
    INSPECTION,
    MORE_MEMORY,
    Manifest,
    labels,
    metadata,
)
from ftm_operator.resources.pod import (
    HOME,
    TMP_MOUNT,
    TMP_VOLUME,
    Source,
    container,
    pod_spec,
    quantity,
    source_mounts,
    source_volumes,
)
from ftm_operator.settings import Settings

TERMINATION_LOG = "/dev/termination-log"
BACKOFF_LIMIT = 3
KILLED = 137
"""The exit code of a container that the kernel killed, mostly for its memory: the same again would end the same."""
GIB = 2**30


def default_resources(step: Step, weight_bytes: int = 0, method: str = "", *, times: int = 1) -> Manifest:
    """What a step's container gets; `times` 2 for the attempt after one that ran out of memory.

    Inspecting, merging, converting to GGUF and verifying take bounded memory, whatever the model's size; AWQ holds the
    model. What a step writes to its own disk follows the model's size.
    """
    held = 2 * weight_bytes if method == "AWQ" else 0
    cpu, request, limit, disk = {
        Step.INSPECT: ("100m", GIB // 4, GIB, 0),
        Step.MERGE: ("1", 2 * GIB, 4 * GIB, 0),
        Step.QUANTIZE: ("1", 2 * GIB + held, 6 * GIB + held, 3 * weight_bytes + GIB),
        Step.VERIFY: ("1", 2 * GIB, 8 * GIB, 2 * weight_bytes + GIB),
    }[step]
    requests = {"cpu": cpu, "memory": quantity(times * request)}
    if disk:
        requests["ephemeral-storage"] = quantity(disk)
    return {"requests": requests, "limits": {"memory": quantity(times * limit)}}


def may_have_more_memory(model: FineTunedModel) -> bool:
    """Where the spec says what Jobs get, that is what they get."""
    return model.spec.jobs.resources is None


def artifacts_source(model: FineTunedModel, settings: Settings) -> Source | None:
    """Where artifacts go: the resource's own store, else the installation's; None when neither is set."""
    if model.spec.artifacts:
        return Source("artifacts", model.spec.artifacts.uri, model.spec.artifacts.secret_name)
    if settings.artifacts_uri:
        return Source("artifacts", settings.artifacts_uri, settings.artifacts_secret_name)
    return None


def inspect_sources(model: FineTunedModel) -> list[Source]:
    spec = model.spec
    return [
        Source("base", spec.base.uri, spec.base.secret_name),
        *(
            Source(f"adapter-{index}", adapter.uri, adapter.secret_name, scale=adapter.scale)
            for index, adapter in enumerate(spec.adapters)
        ),
    ]


def merge_sources(model: FineTunedModel, facts: Facts) -> list[Source]:
    """The sources as they were inspected: resolved URIs, held to their digests."""
    found = [(facts.base.uri, facts.base.digest), *((adapter.uri, adapter.digest) for adapter in facts.adapters)]
    return [
        Source(source.role, uri, source.secret_name, digest, source.scale)
        for source, (uri, digest) in zip(inspect_sources(model), found, strict=True)
    ]


def model_source(artifact: Artifact, store: Source, role: str = "model") -> Source:
    """An artifact as a later step reads it, held to its digest."""
    return Source(role, artifact.uri, store.secret_name, artifact.digest)


def calibration_source(model: FineTunedModel) -> Source | None:
    calibration = model.spec.quantization.calibration
    return Source("calibration", calibration.uri, calibration.secret_name) if calibration else None


def build_id(key: str, artifacts_uri: str) -> str:
    """Names what is built of one key into one store: resources that need the same share its Job."""
    return short_hash([key, artifacts_uri.rstrip("/")], 16)


def inspect_job(
    model: FineTunedModel, inspection: str, attempt: int, settings: Settings, *, more_memory: bool = False
) -> Manifest:
    sources = inspect_sources(model)
    return _job(
        model,
        _Work(
            Step.INSPECT,
            f"{model.metadata.name}-inspect-{inspection[:8]}-{attempt}",
            {INSPECTION: inspection, ATTEMPT: str(attempt)},
            settings.jobs_image,
            sources,
            [Step.INSPECT, *source_arguments(sources)],
        ),
        settings,
        more_memory=more_memory,
    )


def merge_job(
    model: FineTunedModel,
    facts: Facts,
    artifacts: Source,
    key: str,
    attempt: int,
    settings: Settings,
    *,
    more_memory: bool = False,
) -> Manifest:
    arguments = [Step.MERGE, *merge_arguments(model, facts), "--artifacts", artifacts.argument()]
    sources = [*merge_sources(model, facts), replace(artifacts, writable=True)]
    work = _shared(Step.MERGE, build_id(key, artifacts.uri), attempt, settings.merge_image, sources, arguments)
    return _job(model, work, settings, more_memory=more_memory)


def quantize_job(
    model: FineTunedModel,
    decision: Decision,
    merged: Artifact,
    artifacts: Source,
    identity: str,
    attempt: int,
    settings: Settings,
    *,
    more_memory: bool = False,
) -> Manifest:
    """Runs in the image of the engine that the decision names."""
    source, calibration = model_source(merged, artifacts), quantize_calibration(model, decision)
    sources = [source, *([calibration] if calibration else []), replace(artifacts, writable=True)]
    arguments = [*quantize_arguments(model, decision, source), "--artifacts", artifacts.argument()]
    if decision.gguf:
        image = settings.gguf_image
    else:
        engine = decision.awq.engine if decision.awq else None
        image = settings.compressor_image if engine == "llm-compressor" else settings.awq_image
    work = _shared(Step.QUANTIZE, identity, attempt, image, sources, arguments)
    resources = default_resources(
        Step.QUANTIZE, merged.total_bytes, "GGUF" if decision.gguf else "AWQ", times=2 if more_memory else 1
    )
    return _job(model, replace(work, resources=resources), settings, more_memory=more_memory)


def quantize_calibration(model: FineTunedModel, decision: Decision) -> Source | None:
    """What the quantizer reads besides the model; the bundled text needs no source."""
    if decision.gguf and not model.spec.quantization.gguf.importance_matrix:
        return None
    return calibration_source(model)


def quantize_arguments(model: FineTunedModel, decision: Decision, merged: Source) -> list[str]:
    """What a quantization reads and how, without where it writes."""
    calibration = quantize_calibration(model, decision)
    read = ["--model", merged.argument(), *(["--calibration", calibration.argument()] if calibration else [])]
    if decision.gguf:
        gguf = model.spec.quantization.gguf
        return ["gguf", *read, "--type", decision.gguf, *(["--strict"] if gguf.strict else [])]
    assert decision.awq
    awq = decision.awq
    split = ["--tensor-parallel", str(awq.ranks)] if awq.ranks > 1 else []
    return ["awq", *read, "--group-size", str(awq.group_size), *split, "--engine", awq.engine]


def verify_job(
    model: FineTunedModel,
    facts: Facts,
    built: Sequence[Artifact],
    artifacts: Source,
    identity: str,
    attempt: int,
    settings: Settings,
    *,
    more_memory: bool = False,
) -> Manifest:
    """`built`: the merged model, and what was quantized from it, if anything was."""
    models = [model_source(each, artifacts, role) for each, role in zip(built, ("model", "quantized"), strict=False)]
    calibration = calibration_source(model)
    sources = [
        *merge_sources(model, facts),
        *models,
        *([calibration] if calibration else []),
        replace(artifacts, writable=True),
    ]
    arguments = [word.replace("$", "$$") for word in verify_arguments(model, facts, models)]
    work = _shared(
        Step.VERIFY,
        identity,
        attempt,
        settings.gguf_image,
        sources,
        [*arguments, "--artifacts", artifacts.argument()],
        default_resources(Step.VERIFY, built[0].total_bytes, times=2 if more_memory else 1),
    )
    return _job(model, work, settings, more_memory=more_memory)


def verify_arguments(model: FineTunedModel, facts: Facts, models: Sequence[Source]) -> list[str]:
    """What a verification reads and how, without where it writes."""
    verification, calibration = model.spec.verification, calibration_source(model)
    merged, *quantized = models
    prompts = json.dumps([prompt.to_json() for prompt in verification.prompts], ensure_ascii=False)
    return [
        Step.VERIFY,
        *source_arguments(merge_sources(model, facts)),
        *("--model", merged.argument()),
        *(("--quantized", quantized[0].argument()) if quantized else ()),
        *(("--calibration", calibration.argument()) if calibration else ()),
        *(("--prompts", prompts) if verification.prompts else ()),
        *(("--max-divergence", str(verification.max_divergence)) if verification.max_divergence else ()),
    ]


def source_arguments(sources: list[Source]) -> list[str]:
    """--base and --adapter, as `python -m ftm_jobs` takes them; the first source is the base."""
    base, *adapters = sources
    return ["--base", base.argument(), *(word for one in adapters for word in ("--adapter", one.argument()))]


def merge_arguments(model: FineTunedModel, facts: Facts) -> list[str]:
    """What a merge reads and how, without where it writes."""
    quantized_base = QuantizedBase(model.spec.quantized_base)
    flags = [] if quantized_base is QuantizedBase.FULL_PRECISION else ["--quantized-base", quantized_base]
    return [*source_arguments(merge_sources(model, facts)), *flags]


@dataclass(frozen=True)
class _Work:
    """What a Job does."""

    step: Step
    name: str
    labels: Mapping[str, str]
    image: str
    sources: Sequence[Source]
    arguments: Sequence[str]
    resources: Manifest | None = None


def _shared(
    step: Step,
    identity: str,
    attempt: int,
    image: str,
    sources: Sequence[Source],
    arguments: Sequence[str],
    resources: Manifest | None = None,
) -> _Work:
    """Work whose result all resources use that need it."""
    labelled = {ARTIFACT: identity, ATTEMPT: str(attempt)}
    return _Work(step, f"ftm-{step}-{identity}-{attempt}", labelled, image, sources, arguments, resources)


def _job(model: FineTunedModel, work: _Work, settings: Settings, *, more_memory: bool) -> Manifest:
    jobs, step = model.spec.jobs, work.step
    child_labels = {**labels(model, step, step), **work.labels}
    resources = work.resources or default_resources(step, times=2 if more_memory else 1)
    annotations = {GENERATION: str(model.metadata.generation)}
    if more_memory:
        annotations[MORE_MEMORY] = resources["limits"]["memory"]
    pod = {
        **pod_spec(settings, work.sources),
        "restartPolicy": "Never",
        "containers": [
            {
                **container(step, work.image, settings),
                "args": [*work.arguments, "--report", TERMINATION_LOG],
                "env": [HOME],
                "resources": jobs.resources.to_json() if jobs.resources else resources,
                "volumeMounts": [TMP_MOUNT, *source_mounts(work.sources)],
                "terminationMessagePath": TERMINATION_LOG,
            }
        ],
        "volumes": [TMP_VOLUME, *source_volumes(work.sources)],
        **({"nodeSelector": jobs.node_selector} if jobs.node_selector else {}),
        **({"tolerations": [toleration.to_json() for toleration in jobs.tolerations]} if jobs.tolerations else {}),
        **({"serviceAccountName": jobs.service_account_name} if jobs.service_account_name else {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata(model, work.name, child_labels),
            "annotations": annotations,
        },
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            **({"activeDeadlineSeconds": jobs.active_deadline_seconds} if jobs.active_deadline_seconds else {}),
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": step,
                            "operator": "In",
                            "values": [int(ExitCode.INVALID_INPUT)],
                        },
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": step, "operator": "In", "values": [KILLED]},
                    },
                ]
            },
            "template": {"metadata": {"labels": child_labels}, "spec": pod},
        },
    }
