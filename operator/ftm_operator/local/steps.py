"""Runs the operator's list of steps as subprocesses, for `ftm run`.

Needs no cluster. Artifacts go to the manifest's store, or to a cache folder, under the same keys as in a cluster.
Secrets are not read: stores take their credentials from the environment.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from ftm_jobs.contract.caller import CALLED_BY, PERSON
from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact, MergePreview
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.local.errors import LocalError, StepFailed, Stopped, WrongUse
from ftm_operator.local.manifest_file import FILE_SCHEME, file_path
from ftm_operator.local.processes import running
from ftm_operator.planning.plan import Planned
from ftm_operator.steps import STEPS
from ftm_operator.steps.inspect import INSPECT
from ftm_operator.steps.source import SourceArgument
from ftm_operator.steps.step import JobImage, JobStep, PipelineStep, StepInputs, StepResult

PYTHONS = {
    JobImage.AWQ: ("autoawq", "awq", "requirements/quantize-awq.txt", "FTM_AWQ_PYTHON"),
    JobImage.COMPRESSOR: (
        "llm-compressor",
        "llmcompressor",
        "requirements/quantize-compressor.txt",
        "FTM_COMPRESSOR_PYTHON",
    ),
}
"""The images whose libraries others cannot share: the engine, its package, its pins, and the variable that names a
Python with them."""

STOP_SECONDS = 15
"""Time for a step to remove what it has begun: an upload, a partial file."""
KEPT = dict.fromkeys(("merge", "awq", "gguf", "verify", "fetch", "push"), ": it goes on from what is finished")
"""Commands of the Jobs that a second run does not begin from the start."""


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftm-operator"


def inspect(model: FineTunedModel) -> Facts:
    """Returns the facts of the manifest's sources, and says the notes on them. Raises LocalError with the step's own
    sentence."""
    _refuse_claims(model)
    report = _run(INSPECT, _inputs(model))
    assert report.facts is not None
    say_notes(report)
    return report.facts


def build(
    model: FineTunedModel, facts: Facts, planned: Planned, steps: Sequence[PipelineStep] = STEPS
) -> tuple[Artifact, ...]:
    """Runs the steps after the inspection, and returns the models that they made; the last one is to be served.

    An artifact that is there already is not built again. Raises LocalError with a step's own sentence, or when a step
    objects to what was built.
    """
    _refuse_claims(model)
    inputs = replace(_inputs(model), planned=planned).with_result(INSPECT.name, StepResult(facts=facts))
    rest = [step for step in steps if isinstance(step, JobStep) and step.name not in inputs.results]
    rest = [step for step in rest if step.runs_locally and step.asked(model) and step.applies(inputs)]
    for step in rest:
        _python(step.image(inputs))
    for step in rest:
        report = _run(step, inputs)
        result = step.adopt(report, step.input_hash(inputs))
        if result is None:
            raise LocalError(f"the {step.name} step's report does not say what it made; install matching versions")
        _say_result(report)
        if step.objection(inputs, result):
            raise LocalError(
                f"{report.reason}: {report.message}; spec.verification.policy Warn would serve it all the same"
            )
        inputs = inputs.with_result(step.name, result)
    return inputs.models


def _inputs(model: FineTunedModel) -> StepInputs:
    return StepInputs(without_secrets(model), store_of(model))


def store_of(model: FineTunedModel) -> SourceArgument:
    """Returns the manifest's store of artifacts, or the cache's."""
    uri = model.spec.artifacts.uri if model.spec.artifacts else (cache_directory() / "artifacts").as_uri()
    return SourceArgument("artifacts", uri, None)


def _run(step: JobStep, inputs: StepInputs) -> Report:
    command = step.command(inputs)
    name, *arguments = command.words
    return run_command(step.name, arguments, name, _python(command.image))


def _say_result(report: Report) -> None:
    reused = " (reused)" if report.reused else ""
    for check in report.verification.checks if report.verification else ():
        verdict = "ok" if check.passed else "FAILED"
        say(f"{verdict:<6} {check.name} {check.value:.4g} {check.unit}, bound {check.bound:.4g}")
    if report.artifact and report.verification:
        say(f"report {report.artifact.uri}/report.html{reused}")
    elif report.artifact:
        say(f"artifact {report.artifact.uri}{reused}")
    say_notes(report)


def say_notes(report: Report) -> None:
    """Writes the remarks of a step to stderr, a line each."""
    for note in report.notes:
        say(f"note: {note}")


def fetch(artifact: Artifact) -> Path:
    """Returns a folder that holds the artifact; one that is not local is downloaded into the cache."""
    if artifact.uri.startswith(FILE_SCHEME):
        return file_path(artifact.uri)
    directory = cache_directory() / "models" / artifact.key
    run_command(Step.FETCH, ["--artifact", f"{artifact.uri},digest={artifact.digest}", "--to", str(directory)])
    return directory


def _python(image: JobImage) -> str:
    """Returns the Python that has what the image has. Raises LocalError saying what to install where there is none."""
    if image not in PYTHONS:
        return sys.executable
    engine, package, pins, variable = PYTHONS[image]
    if python := os.environ.get(variable):
        return python
    if importlib.util.find_spec(package) is None:
        raise LocalError(
            f"{engine} is not installed here, and needs libraries that others cannot share: install {pins} into an "
            f"environment of its own and set {variable} to its Python"
        )
    return sys.executable


def _package(name: str) -> Path:
    """Returns the folder of an installed package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _correct(python: str) -> str:
    """Returns how to name another Python."""
    variables = [variable for *_, variable in PYTHONS.values() if os.environ.get(variable) == python]
    return f"set {variables[0]} to a Python" if variables else "install ftm again"


def say(message: str) -> None:
    print(f"ftm: {message}", file=sys.stderr, flush=True)


def _refuse_claims(model: FineTunedModel) -> None:
    spec = model.spec
    uris = {"spec.base.uri": spec.base.uri}
    uris |= {f"spec.adapters[{number}].uri": adapter.uri for number, adapter in enumerate(spec.adapters)}
    calibration = spec.quantization.calibration
    uris |= {"spec.quantization.calibration.uri": calibration.uri} if calibration else {}
    uris |= {"spec.artifacts.uri": spec.artifacts.uri} if spec.artifacts else {}
    for field, uri in uris.items():
        if uri.startswith("pvc://"):
            raise WrongUse(f"{field}: {uri} is a volume of a cluster, which is not mounted here; write file:///path")


def without_secrets(model: FineTunedModel) -> FineTunedModel:
    """Returns the model with sources whose credentials come from the environment."""
    spec = model.spec
    base = spec.base.model_copy(update={"secret_name": None})
    adapters = tuple(adapter.model_copy(update={"secret_name": None}) for adapter in spec.adapters)
    calibration = spec.quantization.calibration
    quantization = spec.quantization.model_copy(
        update={"calibration": calibration and calibration.model_copy(update={"secret_name": None})}
    )
    changes = {"base": base, "adapters": adapters, "quantization": quantization}
    return model.model_copy(update={"spec": spec.model_copy(update=changes)})


def run_command(step: str, arguments: list[str], command: str | None = None, python: str = sys.executable) -> Report:
    """Runs a Job's command; its progress goes to our stderr. Raises LocalError with the step's own sentence."""
    say(step)
    code, line = last_line(command or step, arguments, python)
    return _report(step, code, line)


def preview_merge(arguments: list[str]) -> MergePreview:
    """Returns what a merge would do. Raises LocalError with the sentence that the merge would refuse with."""
    code, line = last_line(Step.MERGE, [*arguments, "--dry-run"])
    try:
        return MergePreview.model_validate_json(line)
    except ValidationError:
        report = _report(Step.MERGE, code, line)
    raise LocalError(f"the merge step answered a dry run with {report.reason}; install matching versions")


def _report(step: str, code: int, line: str) -> Report:
    """Returns a step's report. Raises LocalError with its own sentence when it is not done."""
    try:
        report = Report.model_validate_json(line)
    except ValidationError:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # what was killed has not ended its line of progress
        raise LocalError(f"the {step} step ended with exit code {code} and no report") from None
    if report.outcome != Outcome.DONE:
        raise StepFailed(f"{step}: {report.reason}: {report.message}", int(report.exit_code))
    return report


def last_line(command: str, arguments: list[str], python: str = sys.executable) -> tuple[int, str]:
    """Runs a Job's command and returns its exit code and the last line that it printed.

    Raises Stopped, once the command has ended, when a signal asks for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, CALLED_BY: PERSON}
        if python != sys.executable:  # of the packages here it sees this one alone
            Path(folder, "ftm_jobs").symlink_to(_package("ftm_jobs"))
            environment["PYTHONPATH"] = folder
        words = [python, "-m", "ftm_jobs", command, *arguments]
        try:
            with running(words, STOP_SECONDS, stdout=subprocess.PIPE, text=True, env=environment) as process:
                output, _ = process.communicate()
        except OSError as error:
            raise LocalError(f"{python} cannot be started: {error.strerror}; {_correct(python)}") from None
        except Stopped as stopped:
            raise Stopped(stopped.number, "run the same command again" + KEPT.get(command, "")) from None
    return process.returncode, next(reversed(output.strip().splitlines()), "")
