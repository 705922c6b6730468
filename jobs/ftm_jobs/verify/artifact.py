"""Verifies that what would be served is what was trained, as an artifact.

Base, adapters, the merged model and the quantized one are measured against each other. The figures, each beside its
bound, become an artifact: verification.json for programs, report.html for people, manifest.json last. What an engine
is held against once it serves the model is an artifact beside it. The step is done whatever it finds: a check that
failed is a result, and what follows from it is the operator's policy.
The key says what was compared with what settings, so a second run finds the artifact and repeats its verdict.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ftm_jobs.artifacts.manifest import corrupt
from ftm_jobs.artifacts.publish import complete, publish, put
from ftm_jobs.contract.keys import REFERENCE_RECIPE, VERIFY_RECIPE, reference_key, verify_key
from ftm_jobs.contract.manifest import Artifact, Manifest, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.contract.verification import HELD_OUT_TOKENS, REFERENCE_FILE, ServedReference, Verification
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.inputs import Inputs, load_inputs
from ftm_jobs.merge.plan import AS_THE_BASE, MergeChoices
from ftm_jobs.runtime.scratch import explain_scratch, scratch, scratch_root
from ftm_jobs.stores import WritableStore, open_artifacts
from ftm_jobs.stores.source import Source
from ftm_jobs.text.calibration import CalibrationText, load_calibration
from ftm_jobs.text.prompts import read_questions
from ftm_jobs.verify.measurements.measure import measure
from ftm_jobs.verify.measurements.task import VerificationTask
from ftm_jobs.verify.model_folder import ModelFolder, bring_gguf, open_model_folder
from ftm_jobs.verify.models.devices import cores, torch_threads
from ftm_jobs.verify.report_page.page import render_page
from ftm_jobs.verify.verification_json import verification_content

VERIFICATION_FILE = "verification.json"
REPORT_FILE = "report.html"
LARGEST_VERIFICATION_BYTES = 64 * 1024 * 1024
_TOOLS = ("torch", "transformers", "llama-cpp-python")


@dataclass(frozen=True)
class VerifyRequest:
    """The sources of a verification's models, and its settings."""

    base: Source
    adapters: Sequence[Source]
    model: Source
    """The merged model."""
    artifacts: Source
    quantized: Source | None = None
    prompts: Path | str | None = None
    """A file, or a list in JSON."""
    calibration: Source | None = None
    max_divergence: float | None = None
    """Nats per token."""
    tokens: int = HELD_OUT_TOKENS
    """Tokens of hold-out text, at most."""


def verify(request: VerifyRequest) -> Report:
    """Verifies, or repeats the verdict of the artifact that is there. Raises InvalidInput and Failed."""
    root = scratch_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="ftm-verify-", dir=root) as folder:
            return _verify(request, Path(folder))
    except OSError as error:
        raise explain_scratch(error, root) from error


def _verify(request: VerifyRequest, folder: Path) -> Report:
    merged = open_model_folder(request.model, folder / "merged")
    if merged.tensors is None:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f"{merged.uri} is a GGUF model: name the merged model in --model, it in --quantized",
        )
    quantized = open_model_folder(request.quantized, folder / "quantized") if request.quantized else None
    inputs = load_inputs(
        request.base,
        request.adapters,
        MergeChoices(merged.manifest.quantized_base) if merged.manifest else AS_THE_BASE,
    )
    calibration = load_calibration(request.calibration)
    questions, prompts_digest = read_questions(request.prompts) if request.prompts else ((), "")
    sources = _inputs(inputs, merged, quantized, calibration, prompts_digest)
    settings = {"maxDivergence": request.max_divergence, "tokens": request.tokens}
    key = verify_key([(each.role, each.digest, each.scale) for each in sources], settings)
    store = open_artifacts(request.artifacts)
    target, kept_key = store.child(key), reference_key(key)
    if artifact := complete(target, key):
        reference = complete(store.child(kept_key), kept_key)  # a verification of an older version kept none
        return _repeated(target, artifact, reference)
    with scratch(key, quantized.gguf_bytes if quantized else 0) as kept:
        gguf = bring_gguf(quantized, kept) if quantized else None
        task = VerificationTask(inputs, merged, quantized, calibration, questions, request.tokens, folder, gguf)
        content, page, served = _compute(task, request.max_divergence)
    reference = _keep_reference(store.child(kept_key), kept_key, sources, served)
    files = [put(target, VERIFICATION_FILE, _encoded(content)), put(target, REPORT_FILE, page.encode())]
    manifest = Manifest(
        key=key,
        step=Step.VERIFY,
        recipe=VERIFY_RECIPE,
        inputs=tuple(sources),
        quantized_base=inputs.choices.quantized_base,
        files=tuple(sorted(files, key=lambda file: file.path)),
        tools=_tools(),
        measurements={check["name"]: check["value"] for check in content["checks"]},
        notes=tuple(content["notes"]),
    )
    return _report(publish(target, manifest)[0], content, reference, reused=False)


def _keep_reference(
    target: WritableStore, key: str, sources: Sequence[ManifestInput], reference: ServedReference
) -> Artifact:
    """Writes the reference, before the verdict: whoever finds the verdict finds it too."""
    text = (json.dumps(reference.to_json(), ensure_ascii=False, allow_nan=False) + "\n").encode()
    manifest = Manifest(
        key=key,
        step=Step.VERIFY,
        recipe=REFERENCE_RECIPE,
        inputs=tuple(sources),
        files=(put(target, REFERENCE_FILE, text),),
        tools=_tools(),
        notes=reference.notes,
    )
    return publish(target, manifest)[0]


def _inputs(
    inputs: Inputs, merged: ModelFolder, quantized: ModelFolder | None, calibration: CalibrationText, prompts: str
) -> list[ManifestInput]:
    sources = [ManifestInput(role="base", uri=inputs.base.store.uri, digest=inputs.base.digest)]
    sources += [
        ManifestInput(role="adapter", uri=adapter.store.uri, digest=adapter.digest, scale=adapter.scale)
        for adapter in inputs.adapters
    ]
    sources.append(ManifestInput(role="merged", uri=merged.uri, digest=merged.digest))
    if quantized:
        sources.append(ManifestInput(role="quantized", uri=quantized.uri, digest=quantized.digest))
    sources.append(ManifestInput(role="calibration", uri=calibration.uri or "bundled", digest=calibration.digest))
    if prompts:
        sources.append(ManifestInput(role="prompts", uri="spec", digest=prompts))
    return sources


def _compute(task: VerificationTask, max_divergence: float | None) -> tuple[dict[str, Any], str, ServedReference]:
    """Returns the content of verification.json, of report.html and of reference.json."""
    with torch_threads(cores()):
        measured = measure(task)
    inputs, merged, quantized = task.inputs, task.merged, task.quantized
    notes = [*(quantized.manifest.notes if quantized and quantized.manifest else ()), *measured.notes]
    names = {
        "base": inputs.base.store.uri,
        "adapters": [adapter.store.uri for adapter in inputs.adapters],
        "merged": merged.uri,
        "quantized": quantized.uri if quantized else None,
    }
    content = verification_content(measured, names, notes, max_divergence)
    return content, render_page(content), measured.reference


def _repeated(target: WritableStore, artifact: Artifact, reference: Artifact | None) -> Report:
    size = target.list()[VERIFICATION_FILE]
    label = target.describe(VERIFICATION_FILE)
    if size > LARGEST_VERIFICATION_BYTES:
        raise corrupt(label, f"has {size} bytes")
    try:
        content = json.loads(bytes(target.read(VERIFICATION_FILE, 0, size)))
        return _report(artifact, content, reference, reused=True)
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(label, f"cannot be read ({error})") from error


def _report(artifact: Artifact, content: dict[str, Any], reference: Artifact | None, *, reused: bool) -> Report:
    return Report(
        step=Step.VERIFY,
        outcome=Outcome.DONE,
        reason=content["reason"],
        message=content["message"],
        artifact=artifact,
        notes=tuple(content["notes"]),
        verification=Verification.model_validate({"passed": content["passed"], "checks": content["checks"]}),
        reference=reference,
        reused=reused,
    )


def _encoded(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _tools() -> dict[str, str]:
    return {name: tool for name in _TOOLS if (tool := _version(name))}


def _version(package: str) -> str | None:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return None
