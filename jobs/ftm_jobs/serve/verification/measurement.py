"""Reads a reference from its store, proven by digests, and measures an engine by it."""

import hashlib
import time
from collections.abc import Sequence

from pydantic import ValidationError

from ftm_jobs.artifacts.fetch import checked_artifact
from ftm_jobs.artifacts.manifest import corrupt, read_manifest
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.contract.verification import REFERENCE_FILE, ServedReference, ServedVerification
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.serve.verification import checks
from ftm_jobs.serve.verification.checks import Precision, ServedFinding
from ftm_jobs.serve.verification.engines import Engine, EngineRefused
from ftm_jobs.stores import open_store
from ftm_jobs.stores.source import Source

LARGEST_REFERENCE_BYTES = 64 * 1024 * 1024


def read_reference(source: Source) -> tuple[ServedReference, str]:
    """Returns a reference, and its manifest's digest. Raises InvalidInput and Failed."""
    store = open_store(source)
    files = store.list()
    written = read_manifest(store, files)
    if written is None:
        raise InvalidInput(
            Reason.SOURCE_NOT_FOUND,
            f"{store.uri} has no {MANIFEST_NAME}, so no reference is there: correct --reference",
        )
    manifest, text = written
    kept = checked_artifact(store, source, files, manifest, text)
    label = store.describe(REFERENCE_FILE)
    file = next((each for each in manifest.files if each.path == REFERENCE_FILE), None)
    if file is None or file.size > LARGEST_REFERENCE_BYTES:
        raise corrupt(label, "is missing" if file is None else f"has {file.size} bytes")
    content = bytes(store.read(REFERENCE_FILE, 0, file.size))
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise corrupt(label, "has another sha256 than its manifest says")
    try:
        return ServedReference.model_validate_json(content), kept.digest
    except ValidationError as error:
        raise corrupt(label, f"cannot be read ({error.errors()[0]['msg']})") from error


def measure_engine(reference: ServedReference, digest: str, engine: Engine, precision: Precision) -> ServedVerification:
    """Asks the engine all that the reference holds; `precision` is what it was told to compute with.

    Raises EngineAway; what the engine refuses is a verdict.
    """
    start = time.monotonic()
    try:
        findings = _findings(reference, engine, precision)
    except EngineRefused as error:
        return unproven(digest, str(error))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return unproven(digest, f"its answer has another form than expected ({type(error).__name__}: {error})")
    if not findings:
        return unproven(digest, "the reference holds nothing that it could be asked")
    reason, message = checks.summary(findings)
    return ServedVerification(
        reason=reason,
        message=message,
        reference=digest,
        passed=all(finding.check.passed for finding in findings),
        checks=tuple(finding.check for finding in findings),
        notes=reference.notes,
        seconds=round(time.monotonic() - start, 3),
    )


def unproven(digest: str, cause: str) -> ServedVerification:
    """Returns the verdict on an engine that could not be measured."""
    message = f"the engine could not be held against what was verified: {' '.join(cause.split())}"
    return ServedVerification(reason=Reason.SERVED_UNPROVEN, message=message, reference=digest, passed=False)


def _findings(reference: ServedReference, engine: Engine, precision: Precision) -> list[ServedFinding]:
    found = []
    if reference.texts:
        measured = engine.differences(reference.texts)
        found.append(checks.logprobs(reference.texts, measured, precision))
        if shown := checks.adapter(reference.texts, measured, precision):
            found.append(shown)
    if reference.spellings:
        given: Sequence[list[int]] = [engine.spell(each.text) for each in reference.spellings]
        found.append(checks.tokenizer(reference.spellings, given))
    if reference.conversations:
        given = [engine.write(each.messages) for each in reference.conversations]
        found.append(checks.chat_template(reference.conversations, given))
    if reference.answers:
        found.append(_answers(reference, engine))
    return found


def _answers(reference: ServedReference, engine: Engine) -> ServedFinding:
    missing = []
    for asked in reference.answers:
        said = engine.answer(asked)
        prompt = asked.prompt if asked.messages is None else asked.messages[-1]["content"]
        missing += [
            f'the answer to "{str(prompt)[:60]}" lacks "{text[:60]}"'
            for text in asked.expect
            if text.casefold() not in said.casefold()
        ]
    return checks.answers(missing, sum(len(asked.expect) for asked in reference.answers))
