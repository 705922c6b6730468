"""Describes the step that pushes the model that is served to a registry, as an OCI image, where the spec names one."""

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.spec.sources import OCIRepository
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelStatus
from ftm_operator.planning.input_hashes import publication_input_hash
from ftm_operator.steps.source import SourceArgument, artifact_source
from ftm_operator.steps.step import (
    JobImage,
    JobNeeds,
    JobStep,
    StepCommand,
    StepInputs,
    StepResult,
    Verdict,
    with_artifacts,
)


def image_repository(model: FineTunedModel) -> OCIRepository | None:
    """Returns the repository that the spec names."""
    return model.spec.artifacts.oci if model.spec.artifacts else None


def _asked(model: FineTunedModel) -> bool:
    return image_repository(model) is not None


def _applies(inputs: StepInputs) -> bool:
    """Tells whether a step makes what is served: a base is no artifact."""
    return inputs.merges or inputs.chosen_plan.decision.quantizes


def _repository(inputs: StepInputs) -> OCIRepository:
    repository = image_repository(inputs.model)
    assert repository
    return repository


def _input_hash(inputs: StepInputs) -> str:
    return publication_input_hash(_repository(inputs).repository, inputs.models[-1], inputs.refresh)


def _image(_inputs: StepInputs) -> JobImage:
    return JobImage.JOBS


def _command(inputs: StepInputs) -> StepCommand:
    repository, artifact = _repository(inputs), artifact_source(inputs.models[-1], inputs.store)
    registry = SourceArgument("registry", f"oci://{repository.repository}", repository.secret_name)
    arguments = (
        Step.PUBLISH,
        *("--artifact", artifact.argument()),
        *("--to", repository.repository),
        *(("--registry-credentials", registry.credentials) if registry.secret_name else ()),
    )
    return StepCommand(Step.PUBLISH, arguments, (artifact, registry), _image(inputs), JobNeeds("500m", GIB // 2, GIB))


def _adopt(report: Report, input_hash: str) -> StepResult | None:
    return StepResult(input_hash, image=report.image) if report.image else None


def _kept(status: FineTunedModelStatus, input_hash: str, _store: SourceArgument) -> StepResult | None:
    """Returns the image in status; it is of the artifact, whatever the store."""
    kept = status.artifacts
    if kept and kept.image and kept.published_input_hash == input_hash:
        return StepResult(input_hash, image=kept.image)
    return None


def _recorded(status: FineTunedModelStatus, result: StepResult | None) -> FineTunedModelStatus:
    made = result if result and result.image else StepResult()
    return with_artifacts(status, image=made.image, published_input_hash=made.input_hash or None)


def _verdict(result: StepResult) -> Verdict:
    if result.image is None:
        return Verdict(OperatorReason.NOT_PUBLISHED, "the base is served as it is stored, and is no artifact")
    return Verdict("Published", result.image)


PUBLISH = JobStep(
    name=Step.PUBLISH,
    condition="Published",
    phase="Publishing",
    running=OperatorReason.PUBLISHING,
    input_hash=_input_hash,
    command=_command,
    image=_image,
    adopt=_adopt,
    kept=_kept,
    recorded=_recorded,
    verdict=_verdict,
    applies=_applies,
    asked=_asked,
    runs_locally=False,
)
