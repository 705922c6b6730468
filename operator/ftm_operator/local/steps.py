"""`ftm run`: the operator's plan and the Jobs' own commands as subprocesses; local_engine.py serves what they build.

Needs no cluster. Artifacts go to the manifest's store, or to a cache folder, under the same keys as in a cluster.
Secrets are not read: stores take their credentials from the environment.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.local.errors import LocalError, StepFailed, WrongUse
from ftm_operator.local.manifest_file import FILE_SCHEME, file_path
from ftm_operator.planning.decision import Decision
from ftm_operator.resources.job import (
    inspect_sources,
    merge_arguments,
    quantize_arguments,
    source_arguments,
    verify_arguments,
)
from ftm_operator.resources.pod import Source

AWQ_PYTHONS = {
    "autoawq": ("FTM_AWQ_PYTHON", "awq", "requirements/quantize-awq.txt"),
    "llm-compressor": ("FTM_COMPRESSOR_PYTHON", "llmcompressor", "requirements/quantize-compressor.txt"),
}
"""What names the Python with the engine, the engine's package, and what must be installed for it."""


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftm-operator"


def inspect(model: FineTunedModel) -> Facts:
    """The facts of the manifest's sources. Raises LocalError with the step's own sentence."""
    _refuse_claims(model)
    report = step(Step.INSPECT, source_arguments(inspect_sources(_without_secrets(model))))
    assert report.facts is not None
    return report.facts


def merge(model: FineTunedModel, facts: Facts) -> Artifact:
    """The merged model, built unless it is there already. Raises LocalError with the step's own sentence."""
    _refuse_claims(model)
    report = step(Step.MERGE, [*merge_arguments(_without_secrets(model), facts), "--artifacts", _store(model)])
    assert report.artifact is not None
    say(f"artifact {report.artifact.uri}" + (" (reused)" if report.reused else ""))
    return report.artifact


def build(model: FineTunedModel, facts: Facts, decision: Decision) -> tuple[Artifact, ...]:
    """The merged model, and what was quantized from it, if anything is to be; each unless it is there already."""
    python = _python(decision)
    merged = merge(model, facts)
    if not decision.quantizes:
        return (merged,)
    open_model = _without_secrets(model)
    arguments = quantize_arguments(open_model, decision, _as_source(merged, "model"))
    report = step(Step.QUANTIZE, [*arguments[1:], "--artifacts", _store(model)], arguments[0], python)
    assert report.artifact is not None
    say(f"artifact {report.artifact.uri}" + (" (reused)" if report.reused else ""))
    for note in report.notes:
        say(f"note: {note}")
    return merged, report.artifact


def verify(model: FineTunedModel, facts: Facts, built: Sequence[Artifact]) -> str | None:
    """Measures what was built against base and adapters; why it must not be served, if it must not."""
    models = [_as_source(each, role) for each, role in zip(built, ("model", "quantized"), strict=False)]
    arguments = verify_arguments(_without_secrets(model), facts, models)
    report = step(Step.VERIFY, [*arguments[1:], "--artifacts", _store(model)])
    assert report.verification is not None
    assert report.artifact is not None
    for check in report.verification.checks:
        verdict = "ok" if check.passed else "FAILED"
        say(f"{verdict:<6} {check.name} {check.value:.4g} {check.unit}, bound {check.bound:.4g}")
    say(f"report {report.artifact.uri}/report.html" + (" (reused)" if report.reused else ""))
    if report.verification.passed or model.spec.verification.policy == "Warn":
        return None
    return f"{report.reason}: {report.message}; spec.verification.policy Warn would serve it all the same"


def fetch(artifact: Artifact) -> Path:
    """A folder that holds the artifact; one that is not local is downloaded into the cache."""
    if artifact.uri.startswith(FILE_SCHEME):
        return file_path(artifact.uri)
    directory = cache_directory() / "models" / artifact.key
    step(Step.FETCH, ["--artifact", f"{artifact.uri},digest={artifact.digest}", "--to", str(directory)])
    return directory


def _store(model: FineTunedModel) -> str:
    return model.spec.artifacts.uri if model.spec.artifacts else (cache_directory() / "artifacts").as_uri()


def _as_source(artifact: Artifact, role: str) -> Source:
    return Source(role, artifact.uri, None, artifact.digest)


def _python(decision: Decision) -> str:
    """The Python that has what quantizes: AutoAWQ and llm-compressor need libraries that others cannot share."""
    if decision.awq is None:
        return sys.executable
    variable, package, pins = AWQ_PYTHONS[decision.awq.engine]
    if python := os.environ.get(variable):
        return python
    if importlib.util.find_spec(package) is None:
        raise LocalError(
            f"{decision.awq.engine} is not installed here, and needs libraries that others cannot share: install "
            f"{pins} into an environment of its own and set {variable} to its Python"
        )
    return sys.executable


def _package(name: str) -> Path:
    """The folder of an installed package."""
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


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


def _without_secrets(model: FineTunedModel) -> FineTunedModel:
    spec = model.spec
    base = spec.base.model_copy(update={"secret_name": None})
    adapters = tuple(adapter.model_copy(update={"secret_name": None}) for adapter in spec.adapters)
    calibration = spec.quantization.calibration
    quantization = spec.quantization.model_copy(
        update={"calibration": calibration and calibration.model_copy(update={"secret_name": None})}
    )
    changes = {"base": base, "adapters": adapters, "quantization": quantization}
    return model.model_copy(update={"spec": spec.model_copy(update=changes)})


def step(step: Step, arguments: list[str], command: str | None = None, python: str = sys.executable) -> Report:
    """Runs a Job's command; its progress goes to our stderr. Raises LocalError with the step's own sentence."""
    say(step)
    code, line = last_line(command or step, arguments, python)
    try:
        report = Report.model_validate_json(line)
    except ValidationError:
        raise LocalError(f"the {step} step ended with exit code {code} and no report") from None
    if report.outcome != Outcome.DONE:
        raise StepFailed(f"{step}: {report.reason}: {report.message}", int(report.exit_code))
    return report


def last_line(command: str, arguments: list[str], python: str = sys.executable) -> tuple[int, str]:
    """Runs a Job's command: its exit code, and the last line that it printed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if python != sys.executable:  # of the packages here it sees this one alone
            Path(folder, "ftm_jobs").symlink_to(_package("ftm_jobs"))
            environment["PYTHONPATH"] = folder
        done = subprocess.run(
            [python, "-m", "ftm_jobs", command, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    return done.returncode, next(reversed(done.stdout.strip().splitlines()), "")
