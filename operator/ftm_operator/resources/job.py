"""Builds the Job of a step, whichever step it is.

Kubernetes retries a pod that exits 1 and gives up at once on one that exits 2 (the input is wrong) or was killed (it
needs more memory); a pod that was evicted or preempted does not count. A Job's name holds its attempt: a later attempt
is another Job.
"""

from dataclasses import dataclass

from ftm_jobs.contract.steps import ExitCode
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.quantities import binary_quantity, quantity
from ftm_operator.api.spec.jobs import Scratch, StepSettings
from ftm_operator.api.v1alpha1 import FineTunedModel, Jobs, ResourceRequirements
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.amounts import with_asked
from ftm_operator.resources.metadata import (
    ARTIFACT,
    ATTEMPT,
    FIRST_ATTEMPT,
    INSPECTION,
    JOB_SPEC,
    MORE_MEMORY,
    Manifest,
    Owner,
    labels,
    metadata,
)
from ftm_operator.resources.pod import (
    TERMINATION_LOG,
    TMP_VOLUME,
    container,
    pod_spec,
    user_metadata,
    with_template,
    with_user_fields,
    with_user_metadata,
)
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument
from ftm_operator.steps.step import JobImage, JobNeeds, JobStep, StepCommand

BACKOFF_LIMIT = 3
FILE_SYSTEM_TENTHS = 11
"""A scratch volume's size over what is written to it, in tenths: a file system keeps some 7% for itself (ext4)."""
KILLED = 137
"""The exit code of a container that the kernel killed, mostly for its memory: the same again would end the same."""


@dataclass(frozen=True)
class JobOwner:
    """The resource whose Job it is, and how its pods are: those of an adapter are as `spec.jobs` of its model says."""

    resource: Owner
    jobs: Jobs

    @property
    def whose_jobs(self) -> str:
        """Returns the words after the name of a field of `spec.jobs`, where the spec is another resource's."""
        resource = self.resource
        return f" of FineTunedModel {resource.spec.model}" if isinstance(resource, FineTunedAdapter) else ""


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


def may_have_more_memory(jobs: Jobs, step: str) -> bool:
    """Tells whether a step's memory is the operator's to choose: where the spec sets it, it is kept."""
    return not any(_sets_memory(asked) for _, asked in _asked(jobs, step))


def memory_limit_field(owner: JobOwner, step: str) -> str:
    """Returns the field of the spec by which a step's Jobs get more memory."""
    fields = [field for field, asked in _asked(owner.jobs, step) if _sets_memory(asked)]
    return f"{(fields or ['spec.jobs.resources'])[-1]}.limits.memory{owner.whose_jobs}"


def lack_of_memory(owner: JobOwner, command: StepCommand) -> str | None:
    """Returns why a step cannot run within the memory that the spec lets it have, if that is known beforehand."""
    limit = _resources(owner.jobs, command, times=1).get("limits", {}).get("memory")
    least = command.needs.least_memory_bytes
    if limit is None or quantity(limit) >= least:
        return None
    field = memory_limit_field(owner, command.step)
    return (
        f"the {command.step} step holds the model in memory, {binary_quantity(least)}, and {field} is {limit}; raise it"
    )


def _asked(jobs: Jobs, step: str) -> list[tuple[str, ResourceRequirements | None]]:
    """Returns the fields of the spec that set a step's resources, with what they set; the last one wins."""
    own: StepSettings | None = getattr(jobs.steps, step, None)
    return [
        ("spec.jobs.resources", jobs.resources),
        (f"spec.jobs.steps.{step}.resources", own.resources if own else None),
    ]


def _sets_memory(asked: ResourceRequirements | None) -> bool:
    return bool(asked and "memory" in {*asked.requests, *asked.limits})


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
    return own_identity(model, step.name, input_hash)


def own_identity(owner: Owner, step: str, input_hash: str) -> JobIdentity:
    """Returns how the Jobs of a step are found that are for one resource alone."""
    return JobIdentity(INSPECTION, input_hash, f"{owner.metadata.name}-{step}-{input_hash[:8]}")


def build_id(key: str, artifacts_uri: str) -> str:
    """Returns a name for what is built of one key into one store; resources that need the same share its Job."""
    return short_hash([key, artifacts_uri.rstrip("/")], 16)


def job(owner: JobOwner, command: StepCommand, identity: JobIdentity, attempt: Attempt, settings: Settings) -> Manifest:
    """Returns the Job of one attempt."""
    own_labels = {identity.label: identity.value, ATTEMPT: str(attempt.number)}
    child_labels = {**labels(owner.resource, command.step, command.step), **own_labels}
    spec = _spec(owner.jobs, command, settings, more_memory=attempt.more_memory)
    resources = _resources(owner.jobs, command, times=2)
    more_memory = {MORE_MEMORY: resources["limits"]["memory"]} if attempt.more_memory else {}
    spec_hash = job_spec_hash(owner.jobs, command, settings)
    annotations = {JOB_SPEC: spec_hash, FIRST_ATTEMPT: str(attempt.first), **more_memory}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata(owner.resource, f"{identity.name}-{attempt.number}", child_labels),
            "annotations": annotations,
        },
        "spec": {
            **spec,
            "template": {
                **spec["template"],
                "metadata": with_user_metadata({"labels": child_labels}, owner.jobs),
            },
        },
    }


def job_spec_hash(jobs: Jobs, command: StepCommand, settings: Settings) -> str:
    """Returns a hash of what a step's Job runs and how, whoever asks for it and whichever attempt it is."""
    return short_hash(_spec(jobs, command, settings, more_memory=False), 16)


def _spec(jobs: Jobs, command: StepCommand, settings: Settings, *, more_memory: bool) -> Manifest:
    """Returns a Job's spec without its labels."""
    step = command.step
    pod = {
        **pod_spec(settings, jobs, command.sources, tmp=_tmp_volume(jobs.scratch, command.needs)),
        "restartPolicy": "Never",
        "containers": [
            with_user_fields(
                {
                    **container(step, job_image(command.image, settings), settings, sources=command.sources),
                    "args": [*_escaped(command.words), "--report", TERMINATION_LOG],
                    "resources": _resources(jobs, command, times=1 + more_memory),
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
        "template": {
            **({"metadata": users} if (users := user_metadata(jobs)) else {}),
            "spec": with_template(pod, jobs),
        },
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


def _resources(jobs: Jobs, command: StepCommand, times: int) -> Manifest:
    """Returns a step's resources: as they are worked out, with `times` the memory, but for those that the spec sets."""
    needs = command.needs
    requests = {"cpu": needs.cpu, "memory": binary_quantity(times * needs.memory_bytes)}
    if needs.disk_bytes and jobs.scratch is None:
        requests["ephemeral-storage"] = binary_quantity(needs.disk_bytes)
    resources: Manifest = {
        "requests": requests,
        "limits": {"memory": binary_quantity(times * needs.memory_limit_bytes)},
    }
    for _, asked in _asked(jobs, command.step):
        resources = with_asked(resources, asked)
    return resources


def _tmp_volume(scratch: Scratch | None, needs: JobNeeds) -> Manifest:
    """Returns the volume at /tmp: the node's disk, or a claim that lives as long as the pod, if disk is used."""
    if scratch is None or not needs.disk_bytes:
        return TMP_VOLUME
    size = binary_quantity(needs.disk_bytes * FILE_SYSTEM_TENTHS // 10)
    claim = {
        "accessModes": ["ReadWriteOnce"],
        **({"storageClassName": scratch.storage_class_name} if scratch.storage_class_name else {}),
        "resources": {"requests": {"storage": size}},
    }
    return {"name": TMP_VOLUME["name"], "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def has_scratch(job: Manifest) -> bool:
    """Tells whether a Job's pods have volumes that take up storage for as long as the pods are there."""
    return any("ephemeral" in volume for volume in job["spec"]["template"]["spec"].get("volumes") or [])


def _pod_failure_policy(container_name: str) -> Manifest:
    def give_up_at(exit_code: int) -> Manifest:
        codes = {"containerName": container_name, "operator": "In", "values": [exit_code]}
        return {"action": "FailJob", "onExitCodes": codes}

    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    return {"rules": [give_up_at(int(ExitCode.INVALID_INPUT)), disrupted, give_up_at(KILLED)]}
