"""The Jobs of the inspect and merge steps.

Kubernetes retries a pod that exits 1 and gives up at once on one that exits 2 (the input is wrong) or was killed (it
needs more memory); a pod that was evicted or preempted does not count. A Job's name holds its attempt: a later attempt
is another Job.
"""

from dataclasses import replace

from ftm_jobs.contract import ExitCode, Facts, QuantizedBase, Step
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.keys import short_hash
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
    source_mounts,
    source_volumes,
)
from ftm_operator.settings import Settings

TERMINATION_LOG = "/dev/termination-log"
BACKOFF_LIMIT = 3
KILLED = 137
"""The exit code of a container that the kernel killed, mostly for its memory: the same again would end the same."""
DEFAULT_RESOURCES: dict[Step, Manifest] = {
    Step.INSPECT: {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    Step.MERGE: {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
}


MORE_MEMORY_RESOURCES: dict[Step, Manifest] = {
    Step.INSPECT: {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
    Step.MERGE: {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
}
"""Twice the memory, for the attempt after one that ran out of it."""


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


def merge_id(key: str, artifacts_uri: str) -> str:
    """Names the merge of one artifact into one store: resources that need the same share its Job."""
    return short_hash([key, artifacts_uri.rstrip("/")], 16)


def inspect_job(
    model: FineTunedModel, inspection: str, attempt: int, settings: Settings, *, more_memory: bool = False
) -> Manifest:
    name = f"{model.metadata.name}-inspect-{inspection[:8]}-{attempt}"
    extra = {INSPECTION: inspection, ATTEMPT: str(attempt)}
    sources = inspect_sources(model)
    job = _job(model, Step.INSPECT, name, extra, settings.jobs_image, sources, source_arguments(sources), settings)
    return _with_more_memory(job, Step.INSPECT) if more_memory else job


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
    identity = merge_id(key, artifacts.uri)
    extra = {ARTIFACT: identity, ATTEMPT: str(attempt)}
    sources = merge_sources(model, facts)
    arguments = [*merge_arguments(model, facts), "--artifacts", artifacts.argument()]
    image, stores = settings.merge_image, [*sources, replace(artifacts, writable=True)]
    name = f"ftm-merge-{identity}-{attempt}"
    job = _job(model, Step.MERGE, name, extra, image, stores, arguments, settings)
    return _with_more_memory(job, Step.MERGE) if more_memory else job


def source_arguments(sources: list[Source]) -> list[str]:
    """--base and --adapter, as `python -m ftm_jobs` takes them; the first source is the base."""
    base, *adapters = sources
    return ["--base", base.argument(), *(word for one in adapters for word in ("--adapter", one.argument()))]


def merge_arguments(model: FineTunedModel, facts: Facts) -> list[str]:
    """What a merge reads and how, without where it writes."""
    quantized_base = QuantizedBase(model.spec.quantized_base)
    flags = [] if quantized_base is QuantizedBase.FULL_PRECISION else ["--quantized-base", quantized_base]
    return [*source_arguments(merge_sources(model, facts)), *flags]


def _with_more_memory(job: Manifest, step: Step) -> Manifest:
    resources = MORE_MEMORY_RESOURCES[step]
    job["metadata"]["annotations"][MORE_MEMORY] = resources["limits"]["memory"]
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    return job


def _job(
    model: FineTunedModel,
    step: Step,
    name: str,
    extra_labels: dict[str, str],
    image: str,
    sources: list[Source],
    arguments: list[str],
    settings: Settings,
) -> Manifest:
    jobs = model.spec.jobs
    child_labels = {**labels(model, step, step), **extra_labels}
    pod = {
        **pod_spec(settings, sources),
        "restartPolicy": "Never",
        "containers": [
            {
                **container(step, image, settings),
                "args": [step, *arguments, "--report", TERMINATION_LOG],
                "env": [HOME],
                "resources": jobs.resources.to_json() if jobs.resources else DEFAULT_RESOURCES[step],
                "volumeMounts": [TMP_MOUNT, *source_mounts(sources)],
                "terminationMessagePath": TERMINATION_LOG,
            }
        ],
        "volumes": [TMP_VOLUME, *source_volumes(sources)],
        **({"nodeSelector": jobs.node_selector} if jobs.node_selector else {}),
        **({"tolerations": [toleration.to_json() for toleration in jobs.tolerations]} if jobs.tolerations else {}),
        **({"serviceAccountName": jobs.service_account_name} if jobs.service_account_name else {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata(model, name, child_labels),
            "annotations": {GENERATION: str(model.metadata.generation)},
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
