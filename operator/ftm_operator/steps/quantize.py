"""Describes the step that makes AWQ weights or a GGUF file of the merged model, where the plan asks for either.

In mode Dynamic llama.cpp's GGUF file is made of the base.
"""

from dataclasses import dataclass

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelStatus
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.input_hashes import quantization_input_hash
from ftm_operator.steps.source import SourceArgument, artifact_source, calibration_source, inspected_sources
from ftm_operator.steps.step import (
    JobImage,
    JobNeeds,
    JobStep,
    StepCommand,
    StepInputs,
    StepResult,
    Verdict,
    artifact_sentence,
    is_in_store,
    with_artifacts,
    with_notes,
)


@dataclass(frozen=True)
class _Unquantized:
    """The model that is to be quantized: the merged one, or the base where nothing is merged."""

    source: SourceArgument
    key: str
    total_bytes: int


def _unquantized(inputs: StepInputs) -> _Unquantized:
    if inputs.merges:
        merged = inputs.models[0]
        return _Unquantized(artifact_source(merged, inputs.store), merged.key, merged.total_bytes)
    base = inputs.inspected_facts.base
    source, *_ = inspected_sources(inputs.model, inputs.inspected_facts)
    return _Unquantized(source, base.digest, base.weight_bytes)


def _applies(inputs: StepInputs) -> bool:
    return inputs.chosen_plan.decision.quantizes


def _input_hash(inputs: StepInputs) -> str:
    decision, key = inputs.chosen_plan.decision, _unquantized(inputs).key
    return quantization_input_hash(inputs.model.spec, decision, key, inputs.refresh)


def _image(inputs: StepInputs) -> JobImage:
    """Returns the image of the engine that the plan names."""
    decision = inputs.chosen_plan.decision
    if decision.awq:
        return JobImage.COMPRESSOR if decision.awq.engine == "llm-compressor" else JobImage.AWQ
    return JobImage.GGUF


def _command(inputs: StepInputs) -> StepCommand:
    decision, unquantized = inputs.chosen_plan.decision, _unquantized(inputs)
    model, calibration = unquantized.source, _calibration(inputs.model, decision)
    reads = (model, *([calibration] if calibration else []))
    arguments = (
        "gguf" if decision.gguf else "awq",
        *("--model", model.argument()),
        *(("--calibration", calibration.argument()) if calibration else ()),
        *_settings(inputs.model, decision),
    )
    needs = _needs(decision, unquantized.total_bytes)
    return StepCommand(Step.QUANTIZE, arguments, reads, _image(inputs), needs, inputs.store)


def _settings(model: FineTunedModel, decision: Decision) -> tuple[str, ...]:
    if decision.gguf:
        return ("--type", decision.gguf, *(["--strict"] if model.spec.quantization.gguf.strict else []))
    assert decision.awq
    awq = decision.awq
    split = ("--tensor-parallel", str(awq.ranks)) if awq.ranks > 1 else ()
    return ("--group-size", str(awq.group_size), *split, "--engine", awq.engine)


def _calibration(model: FineTunedModel, decision: Decision) -> SourceArgument | None:
    """Returns the text that the quantizer reads besides the model; the bundled text needs no source."""
    if decision.gguf and not model.spec.quantization.gguf.importance_matrix:
        return None
    return calibration_source(model)


def _needs(decision: Decision, weight_bytes: int) -> JobNeeds:
    """Returns bounded memory for GGUF, and twice the model more for AWQ, one engine of which holds the model."""
    held = 0 if decision.gguf else 2 * weight_bytes
    least = weight_bytes if decision.awq and decision.awq.engine == "llm-compressor" else 0
    return JobNeeds("1", 2 * GIB + held, 6 * GIB + held, least, 3 * weight_bytes + GIB)


def _adopt(report: Report, input_hash: str) -> StepResult | None:
    return StepResult(input_hash, artifact=report.artifact, notes=report.notes) if report.artifact else None


def _kept(status: FineTunedModelStatus, input_hash: str, store: SourceArgument) -> StepResult | None:
    kept = status.artifacts
    if kept and kept.quantized and kept.quantized_input_hash == input_hash and is_in_store(kept.quantized, store):
        return StepResult(input_hash, artifact=kept.quantized, notes=kept.notes or ())
    return None


def _recorded(status: FineTunedModelStatus, result: StepResult | None) -> FineTunedModelStatus:
    made = result if result and result.artifact else StepResult()
    return with_artifacts(
        status, quantized=made.artifact, quantized_input_hash=made.input_hash or None, notes=made.notes or None
    )


def _verdict(result: StepResult) -> Verdict:
    if result.artifact is None:
        return Verdict(OperatorReason.NOT_QUANTIZED, "the weights are served as they are")
    return Verdict("Quantized", with_notes(artifact_sentence(result.artifact), result.notes))


QUANTIZE = JobStep(
    name=Step.QUANTIZE,
    condition="Quantized",
    phase="Quantizing",
    running=OperatorReason.QUANTIZING,
    input_hash=_input_hash,
    command=_command,
    image=_image,
    adopt=_adopt,
    kept=_kept,
    recorded=_recorded,
    verdict=_verdict,
    applies=_applies,
)
