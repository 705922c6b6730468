"""Describes the step that measures what was built against the base with its adapters."""

import json
from collections.abc import Iterator, Sequence

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.verification import Check, Verification
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModelStatus, Prompt
from ftm_operator.planning.input_hashes import verification_input_hash
from ftm_operator.steps.source import (
    SourceArgument,
    artifact_source,
    calibration_source,
    inspected_sources,
    source_arguments,
)
from ftm_operator.steps.step import (
    JobImage,
    JobNeeds,
    JobStep,
    StepCommand,
    StepInputs,
    StepResult,
    Verdict,
    if_merged,
    with_artifacts,
)

LONGEST_PART_BYTES = 120 * 1024
"""Below MAX_ARG_STRLEN, 128 KiB: one argument of a program. Source: Linux, include/uapi/linux/binfmts.h."""


def _input_hash(inputs: StepInputs) -> str:
    return verification_input_hash(inputs.model.spec, inputs.models, inputs.refresh)


def _image(_inputs: StepInputs) -> JobImage:
    return JobImage.GGUF


def _command(inputs: StepInputs) -> StepCommand:
    verification, calibration = inputs.model.spec.verification, calibration_source(inputs.model)
    originals = inspected_sources(inputs.model, inputs.inspected_facts)
    models = [
        artifact_source(artifact, inputs.store, role)
        for artifact, role in zip(inputs.models, ("model", "quantized"), strict=False)
    ]
    arguments = (
        Step.VERIFY,
        *source_arguments(originals),
        *(word for source in models for word in (f"--{source.role}", source.argument())),
        *(("--calibration", calibration.argument()) if calibration else ()),
        *_prompt_arguments(verification.prompts),
        *(("--max-divergence", str(verification.max_divergence)) if verification.max_divergence else ()),
    )
    reads = (*originals, *models, *([calibration] if calibration else []))
    needs = JobNeeds("1", 2 * GIB, 8 * GIB, disk_bytes=2 * inputs.models[0].total_bytes + GIB)
    return StepCommand(Step.VERIFY, arguments, reads, _image(inputs), needs, inputs.store)


def _prompt_arguments(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """Returns the questions as JSON, in as many arguments as Linux needs: it starts no program with a longer one."""
    if not prompts:
        return ()
    text = json.dumps([prompt.to_json() for prompt in prompts], ensure_ascii=False)
    first, *rest = _parts(text.encode(), LONGEST_PART_BYTES)
    return ("--prompts", first, *(f"--prompts-rest={part}" for part in rest))


def _parts(text: bytes, most_bytes: int) -> Iterator[str]:
    """Yields a text in parts of at most so many bytes of UTF-8 each, with no character cut in two."""
    while len(text) > most_bytes:
        end = most_bytes
        while text[end] & 0xC0 == 0x80:
            end -= 1
        yield text[:end].decode()
        text = text[end:]
    yield text.decode()


def _adopt(report: Report, input_hash: str) -> StepResult | None:
    if report.verification is None:
        return None
    return StepResult(
        input_hash, artifact=report.artifact, verification=report.verification, reference=report.reference
    )


def _kept(status: FineTunedModelStatus, input_hash: str, _store: SourceArgument) -> StepResult | None:
    """Returns the figures in status; they are of the models, whatever the store."""
    kept = status.artifacts
    if kept and kept.verification and kept.verified_input_hash == input_hash:
        return StepResult(input_hash, artifact=kept.report, verification=kept.verification, reference=kept.reference)
    return None


def _recorded(status: FineTunedModelStatus, result: StepResult | None) -> FineTunedModelStatus:
    made = result or StepResult()
    return with_artifacts(
        status,
        report=made.artifact,
        verified_input_hash=made.input_hash or None,
        verification=made.verification,
        reference=made.reference,
    )


def _verdict(result: StepResult) -> Verdict:
    verification = result.verification
    if verification is None:
        return Verdict(OperatorReason.NOT_VERIFIED, "each engine proves the adapters that it is to answer for")
    if verification.passed:
        return Verdict(OperatorReason.VERIFIED, "; ".join(map(_figure, verification.checks)))
    return Verdict(OperatorReason.VERIFICATION_FAILED, failed_checks(verification), good=False)


def _objection(inputs: StepInputs, result: StepResult) -> str | None:
    """Returns the figures beyond their bounds, unless the spec asks for no more than a warning."""
    assert result.verification
    if result.verification.passed or inputs.model.spec.verification.policy == "Warn":
        return None
    return failed_checks(result.verification)


def failed_checks(verification: Verification) -> str:
    """Returns the figures that are beyond their bounds."""
    return "; ".join(_figure(check) for check in verification.checks if not check.passed)


def _figure(check: Check) -> str:
    return f"{check.name} {check.value:.4g} {check.unit}, bound {check.bound:.4g}"


VERIFY = JobStep(
    name=Step.VERIFY,
    condition="Verified",
    phase="Verifying",
    running=OperatorReason.VERIFYING,
    input_hash=_input_hash,
    command=_command,
    image=_image,
    adopt=_adopt,
    kept=_kept,
    recorded=_recorded,
    verdict=_verdict,
    applies=if_merged,
    objection=_objection,
)
