"""Runs the engine that serves a model on localhost, for `ftm run`: vLLM, or llama.cpp's server."""

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tenacity import RetryCallState, RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines import llama_server, vllm
from ftm_operator.local.engine_client import EngineClient
from ftm_operator.local.errors import LocalError
from ftm_operator.local.ports import ADDRESS, free_port
from ftm_operator.local.processes import running
from ftm_operator.local.steps import cache_directory, say

ENGINE_START_SECONDS = 900
ENGINE_STOP_SECONDS = 30
ATTEMPT_SECONDS = 0.5
ATTEMPTS_UNTOLD = 10
"""Attempts to reach a starting engine between two lines about it."""
LOG_LINES_SHOWN = 15
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCH_COMPILE_DISABLE": "1",
}
"""GiB of KV cache, no pinning of threads, and nothing that takes a C++ compiler, as log-probabilities do: for vLLM's
CPU build on a machine that does other things too."""
LLAMA_CPP_VARIABLE = "FTM_LLAMA_CPP"
"""Names a build of llama.cpp, as for the step that makes GGUF files."""


@dataclass(frozen=True)
class RunningEngine:
    """An OpenAI-compatible server on this machine."""

    client: EngineClient
    process: "subprocess.Popen[bytes]"


@contextlib.contextmanager
def serve(
    model: FineTunedModel, plan: Plan, directory: Path, guard: Path | None = None, adapters: Sequence[Path] = ()
) -> Iterator[RunningEngine]:
    """Runs the plan's engine with the model until the block ends; behind the guard, it loads adapters while it serves.

    `adapters` are the files of those that llama.cpp starts with. Raises LocalError with the end of the engine's log
    when it does not start.
    """
    port = free_port()
    start = _llama_server if plan.engine == llama_server.ENGINE else _vllm
    command, environment = start(model, plan, directory, port)
    command += llama_server.adapter_arguments([str(adapter) for adapter in adapters])
    if guard:
        command += vllm.GUARD_FLAGS
        environment |= {**vllm.RUNTIME_ADAPTERS, "PYTHONPATH": _python_path(guard)}
    with tempfile.TemporaryFile() as log:
        say(f"starting {plan.engine} with {directory}")
        with running(
            command, ENGINE_STOP_SECONDS, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        ) as process:
            engine = RunningEngine(EngineClient(f"http://{ADDRESS}:{port}", str(plan.served_model_name)), process)
            _await_engine(engine, log)
            yield engine


def _llama_server(model: FineTunedModel, plan: Plan, directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
    arguments = llama_server.arguments(model, plan, str(directory), port, ADDRESS)
    return [_llama_server_program(), *arguments], {}


def _llama_server_program() -> str:
    """Returns the program of the build that the variable names, of the image's or the user's, else that on PATH."""
    named = os.environ.get(LLAMA_CPP_VARIABLE)
    folders = [Path(named)] if named else [Path("/opt/llama.cpp"), cache_directory() / "llama.cpp/current"]
    programs = [folder / "bin/llama-server" for folder in folders]
    built = next((str(program) for program in programs if program.is_file()), None)
    program = built or shutil.which("llama-server")
    if not program:
        raise LocalError(
            f"llama.cpp is not installed here; run `make llama-cpp`, set {LLAMA_CPP_VARIABLE} to its folder, or put "
            "llama-server on PATH"
        )
    return program


def _vllm(model: FineTunedModel, plan: Plan, directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
    flags, environment = _flags_of_installed_vllm()
    arguments = vllm.arguments(model, plan, str(directory), port)
    return [sys.executable, "-m", vllm.MODULE, *arguments, "--host", ADDRESS, *flags], {**environment, **vllm.OFFLINE}


def _flags_of_installed_vllm() -> tuple[list[str], dict[str, str]]:
    """Returns flags and environment for the vLLM that is installed here."""
    installed = {name for name in ("vllm", "vllm-cpu") if _is_installed(name)}
    if not installed:
        raise LocalError("vLLM is not installed here; install ftm-operator[local], or vllm on a machine with a GPU")
    if "vllm" in installed:
        return [], {}
    return ["--enforce-eager"], {name: os.environ.get(name, value) for name, value in CPU_ENVIRONMENT.items()}


def _python_path(folder: Path) -> str:
    before = os.environ.get("PYTHONPATH")
    return f"{folder}{os.pathsep}{before}" if before else str(folder)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _await_engine(engine: RunningEngine, log: IO[bytes]) -> None:
    """Returns when the engine is ready, and says every few seconds how it goes on. Raises LocalError."""

    def is_ready() -> bool:
        if engine.process.poll() is not None:
            code = engine.process.returncode
            raise LocalError(f"the engine ended with exit code {code}; its last lines:\n{_tail(log)}")
        return engine.client.is_ready()

    def report(state: RetryCallState) -> None:
        if state.attempt_number % ATTEMPTS_UNTOLD == 0:
            say(f"the engine is starting, {state.seconds_since_start or 0:.0f} s: {_last_line(log)}")

    waiting = Retrying(
        retry=retry_if_result(lambda ready: not ready),
        stop=stop_after_delay(ENGINE_START_SECONDS),
        wait=wait_fixed(ATTEMPT_SECONDS),
        before_sleep=report,
    )
    began = time.monotonic()
    try:
        waiting(is_ready)
    except RetryError:
        message = f"the engine is not ready after {ENGINE_START_SECONDS} s; its last lines:\n{_tail(log)}"
        raise LocalError(message) from None
    say(f"the engine is ready after {time.monotonic() - began:.0f} s")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _last_line(log: IO[bytes]) -> str:
    """Returns the engine's newest message of its own, without its prefix of time and place."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if " INFO " in line and "] " in line]
    return lines[-1].partition("] ")[2].strip()[:100] if lines else "loading Python packages"
