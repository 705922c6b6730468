"""Describes the step that reads configs and safetensors headers, and yields facts. Its Job is its resource's own."""

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import MOST_NOTES, FineTunedModelStatus, Sources
from ftm_operator.planning.input_hashes import inspection_input_hash
from ftm_operator.steps.source import SourceArgument, source_arguments, spec_sources
from ftm_operator.steps.step import (
    JobImage,
    JobNeeds,
    JobStep,
    StepCommand,
    StepInputs,
    StepResult,
    Verdict,
    with_notes,
)


def _input_hash(inputs: StepInputs) -> str:
    return inspection_input_hash(inputs.model.spec, inputs.refresh)


def _image(_inputs: StepInputs) -> JobImage:
    return JobImage.JOBS


def _command(inputs: StepInputs) -> StepCommand:
    sources, spec = spec_sources(inputs.model), inputs.model.spec
    unmerged = ("--unmerged", "--quantized-base", spec.quantized_base) if spec.mode == "Dynamic" else ()
    arguments = (Step.INSPECT, *source_arguments(sources), *unmerged)
    return StepCommand(Step.INSPECT, arguments, sources, _image(inputs), JobNeeds("100m", GIB // 4, GIB))


def _adopt(report: Report, input_hash: str) -> StepResult | None:
    return StepResult(input_hash, facts=report.facts, notes=report.notes) if report.facts else None


def _kept(status: FineTunedModelStatus, input_hash: str, _store: SourceArgument) -> StepResult | None:
    """Returns the facts in status; they are of the sources, whatever the store."""
    if status.facts and status.sources and status.sources.input_hash == input_hash:
        return StepResult(input_hash, facts=status.facts, notes=status.sources.notes or ())
    return None


def _recorded(status: FineTunedModelStatus, result: StepResult | None) -> FineTunedModelStatus:
    facts = result.facts if result else None
    sources = Sources(input_hash=result.input_hash, notes=result.notes[:MOST_NOTES] or None) if result else None
    return status.model_copy(update={"facts": facts, "sources": sources})


def _verdict(result: StepResult) -> Verdict:
    assert result.facts
    return Verdict("Inspected", with_notes(_sentence(result.facts), result.notes))


def _sentence(facts: Facts) -> str:
    base = facts.base
    ranks = ", ".join(str(adapter.rank) for adapter in facts.adapters)
    found = f"{base.architecture or base.model_type}, {base.parameters:,} parameters in {base.dtype}"
    adapters = f"; {len(facts.adapters)} adapter{'s' if len(facts.adapters) > 1 else ''} of rank {ranks}"
    return found + (adapters if facts.adapters else "")


INSPECT = JobStep(
    name=Step.INSPECT,
    condition="Inspected",
    phase="Inspecting",
    running=OperatorReason.INSPECTING,
    input_hash=_input_hash,
    command=_command,
    image=_image,
    adopt=_adopt,
    kept=_kept,
    recorded=_recorded,
    verdict=_verdict,
    shared=False,
)
