"""Builds the Job of a step, whichever step it is.

Kubernetes retries a pod that exits 1 and gives up at once on one that exits 2 (the input is wrong) or was killed (it
needs more memory); a pod that was evicted or preempted does not count. A Job's name holds its attempt: a later attempt
is another Job.
"""

from dataclasses import dataclass

from ftm_jobs.contract.steps import ExitCode
from ftm_operator.api.quantities import binary_quantity
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.metadata import (
    ARTIFACT,
    ATTEMPT,
    FIRST_ATTEMPT,
    INSPECTION,
    JOB_SPEC,
    MORE_MEMORY,
    Manifest,
    labels,
    metadata,
)
from ftm_operator.resources.pod import (
    TERMINATION_LOG,
    container,
    pod_spec,
    user_metadata,
    with_user_fields,
    with_user_metadata,
)
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument
from ftm_operator.steps.step import JobImage, JobNeeds, JobStep, StepCommand

BACKOFF_LIMIT = 3
KILLED = 137
"""The exit code of a container that the kernel killed, mostly for its memory: the same again would end the same."""


@dataclass(frozen=True)
class JobIdentity:
    """The label by which the attempts at one piece of work are found, and the name that they share."""

    label: str
    value: str
    name: str


@dataclass(frozen=True)
class Attempt:
    """One of a step's Jobs."""

    number: int
    first: int
    """The number of the first attempt that ran the same in the same way."""
    more_memory: bool = False
    """The attempt follows one that ran out of memory, and gets twice as much."""


def may_have_more_memory(model: FineTunedModel) -> bool:
    """Tells whether a Job's memory is the operator's to choose: where the spec sets resources, they are kept."""
    return model.spec.jobs.resources is None


def artifacts_source(model: FineTunedModel, settings: Settings) -> SourceArgument | None:
    """Returns the resource's own artifact store, else the installation's; None when neither is set."""
    if model.spec.artifacts:
        return SourceArgument("artifacts", model.spec.artifacts.uri, model.spec.artifacts.secret_name)
    if settings.artifacts_uri:
        return SourceArgument("artifacts", settings.artifacts_uri, settings.artifacts_secret_name)
    return None


def job_identity(model: FineTunedModel, step: JobStep, input_hash: str, store: SourceArgument) -> JobIdentity:
    """Returns how a step's Jobs are found: by what they build and where, or by the inspection of this resource."""
    if step.shared:
        value = build_id(input_hash, store.uri)
        return JobIdentity(ARTIFACT, value, f"ftm-{step.name}-{value}")
    return JobIdentity(INSPECTION, input_hash, f"{model.metadata.name}-{step.name}-{input_hash[:8]}")


def build_id(key: str, artifacts_uri: str) -> str:
    """Returns a name for what is built of one key into one store; resources that need the same share its Job."""
    return short_hash([key, artifacts_uri.rstrip("/")], 16)


def job(
    model: FineTunedModel, command: StepCommand, identity: JobIdentity, attempt: Attempt, settings: Settings
) -> Manifest:
    """Returns the Job of one attempt."""
    own_labels = {identity.label: identity.value, ATTEMPT: str(attempt.number)}
    child_labels = {**labels(model, command.step, command.step), **own_labels}
    spec = _spec(model, command, settings, more_memory=attempt.more_memory)
    (made,) = spec["template"]["spec"]["containers"]
    more_memory = {MORE_MEMORY: made["resources"]["limits"]["memory"]} if attempt.more_memory else {}
    annotations = {JOB_SPEC: job_spec_hash(model, command, settings), FIRST_ATTEMPT: str(attempt.first), **more_memory}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata(model, f"{identity.name}-{attempt.number}", child_labels),
            "annotations": annotations,
        },
        "spec": {
            **spec,
            "template": {
                **spec["template"],
                "metadata": with_user_metadata({"labels": child_labels}, model.spec.jobs),
            },
        },
    }


def job_spec_hash(model: FineTunedModel, command: StepCommand, settings: Settings) -> str:
    """Returns a hash of what a step's Job runs and how, whoever asks for it and whichever attempt it is."""
    return short_hash(_spec(model, command, settings, more_memory=False), 16)


def _spec(model: FineTunedModel, command: StepCommand, settings: Settings, *, more_memory: bool) -> Manifest:
    """Returns a Job's spec without its labels."""
    jobs, step = model.spec.jobs, command.step
    resources = jobs.resources.to_json() if jobs.resources else _resources(command.needs, times=1 + more_memory)
    pod = {
        **pod_spec(settings, jobs, command.sources),
        "restartPolicy": "Never",
        "containers": [
            with_user_fields(
                {
                    **container(step, job_image(command.image, settings), settings, sources=command.sources),
                    "args": [*_escaped(command.words), "--report", TERMINATION_LOG],
                    "resources": resources,
                    "terminationMessagePath": TERMINATION_LOG,
                },
                jobs,
            )
        ],
    }
    return {
        "backoffLimit": BACKOFF_LIMIT,
        **({"activeDeadlineSeconds": jobs.active_deadline_seconds} if jobs.active_deadline_seconds else {}),
        "podFailurePolicy": _pod_failure_policy(step),
        "template": {**({"metadata": users} if (users := user_metadata(jobs)) else {}), "spec": pod},
    }


def job_image(image: JobImage, settings: Settings) -> str:
    """Returns the installation's image of that name."""
    return {
        JobImage.JOBS: settings.jobs_image,
        JobImage.MERGE: settings.merge_image,
        JobImage.GGUF: settings.gguf_image,
        JobImage.AWQ: settings.awq_image,
        JobImage.COMPRESSOR: settings.compressor_image,
    }[image]


def _escaped(words: tuple[str, ...]) -> list[str]:
    """Returns a command line in which Kubernetes sees no $(VARIABLE): a prompt may hold one."""
    return [word.replace("$", "$$") for word in words]


def _resources(needs: JobNeeds, times: int) -> Manifest:
    requests = {"cpu": needs.cpu, "memory": binary_quantity(times * needs.memory_bytes)}
    if needs.disk_bytes:
        requests["ephemeral-storage"] = binary_quantity(needs.disk_bytes)
    return {"requests": requests, "limits": {"memory": binary_quantity(times * needs.memory_limit_bytes)}}


def _pod_failure_policy(container_name: str) -> Manifest:
    def give_up_at(exit_code: int) -> Manifest:
        codes = {"containerName": container_name, "operator": "In", "values": [exit_code]}
        return {"action": "FailJob", "onExitCodes": codes}

    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    return {"rules": [give_up_at(int(ExitCode.INVALID_INPUT)), disrupted, give_up_at(KILLED)]}
