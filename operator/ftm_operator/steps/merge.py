"""Describes the step that folds the adapters into the base's weights. Its input hash is the key of the merged model."""

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModelStatus
from ftm_operator.planning.input_hashes import merged_key
from ftm_operator.steps.source import SourceArgument, inspected_sources, source_arguments
from ftm_operator.steps.step import (
    JobImage,
    JobNeeds,
    JobStep,
    StepCommand,
    StepInputs,
    StepResult,
    Verdict,
    artifact_sentence,
    if_merged,
    with_artifacts,
)


def _input_hash(inputs: StepInputs) -> str:
    return merged_key(inputs.model.spec, inputs.inspected_facts)


def _image(_inputs: StepInputs) -> JobImage:
    return JobImage.MERGE


def _command(inputs: StepInputs) -> StepCommand:
    sources = inspected_sources(inputs.model, inputs.inspected_facts)
    quantized_base = QuantizedBase(inputs.model.spec.quantized_base)
    flags = () if quantized_base is QuantizedBase.FULL_PRECISION else ("--quantized-base", quantized_base)
    arguments = (Step.MERGE, *source_arguments(sources), *flags)
    needs = JobNeeds("1", 2 * GIB, 4 * GIB)
    return StepCommand(Step.MERGE, arguments, sources, _image(inputs), needs, inputs.store)


def _adopt(report: Report, input_hash: str) -> StepResult | None:
    return StepResult(input_hash, artifact=report.artifact) if report.artifact else None


def _kept(status: FineTunedModelStatus, input_hash: str, store: SourceArgument) -> StepResult | None:
    merged = status.artifacts.merged if status.artifacts else None
    if merged and merged.uri == f"{store.uri.rstrip('/')}/{input_hash}":
        return StepResult(input_hash, artifact=merged)
    return None


def _recorded(status: FineTunedModelStatus, result: StepResult | None) -> FineTunedModelStatus:
    return with_artifacts(status, merged=result.artifact if result else None)


def _verdict(result: StepResult) -> Verdict:
    if result.artifact is None:
        return Verdict(OperatorReason.NOT_MERGED, "the base is served, and adapters beside it")
    return Verdict("Merged", artifact_sentence(result.artifact))


MERGE = JobStep(
    name=Step.MERGE,
    condition="Merged",
    phase="Merging",
    running=OperatorReason.MERGING,
    input_hash=_input_hash,
    command=_command,
    image=_image,
    adopt=_adopt,
    kept=_kept,
    recorded=_recorded,
    verdict=_verdict,
    applies=if_merged,
)
