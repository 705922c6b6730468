"""Runs engines with the operator's command lines, each with as many threads, and freezes those that are not measured.

vLLM stands behind its guard, as in pods.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from ftm_jobs.serve.engine import VllmClient
from ftm_jobs.serve.guard_files import read_secret
from ftm_operator.engines import llama_server, vllm
from ftm_operator.local.engine import CPU_ENVIRONMENT, LLAMA_CPP_VARIABLE
from ftm_operator.local.ports import ADDRESS, free_port
from ftm_operator.planning.feedback.start_parts import StartParts, start_parts
from tests.bench.served.models import BuiltModel
from tests.bench.served.pods import PodFolders

START_SECONDS = 900.0
LOOK_SECONDS = 0.2
STOP_SECONDS = 60
SHOWN_CHARACTERS = 3000


@dataclass(frozen=True)
class EngineCommand:
    """The command line of an engine, and what its environment adds to ours."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass
class Engine:
    """An engine's process, with a log whose lines have times."""

    title: str
    command: EngineCommand
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    began: float = field(init=False)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}"

    def start(self) -> None:
        """Starts it in a process group of its own; it ends with this process."""
        with self.log.open("wb") as log:
            stamp = [sys.executable, "-m", "tests.bench.served.stamped"]
            stamping = subprocess.Popen(stamp, stdin=subprocess.PIPE, stdout=log, start_new_session=True)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *self.command.words],
            env={**os.environ, **self.command.environment},
            stdout=stamping.stdin,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert stamping.stdin
        stamping.stdin.close()

    def await_ready(self) -> float:
        """Returns the seconds from its start until it said that it can answer."""
        with httpx2.Client(timeout=5, trust_env=False) as client:
            while not self._is_up(client):
                assert self.process.poll() is None, self.last_words()
                assert time.monotonic() - self.began < START_SECONDS, self.last_words()
                time.sleep(LOOK_SECONDS)
        return time.monotonic() - self.began

    def _is_up(self, client: httpx2.Client) -> bool:
        try:
            return client.get(f"{self.url}/health").is_success
        except httpx2.TransportError:
            return False

    def parts(self) -> StartParts | None:
        """Returns what the operator reads from its log."""
        return start_parts(self.log.read_text(errors="replace"))

    def last_words(self) -> str:
        return f"{self.title}: {self.log.read_text(errors='replace')[-SHOWN_CHARACTERS:]}"

    def freeze(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def end(self) -> int:
        """Asks it to end as the kubelet does, its first process alone, and returns the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Ends whatever is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()


@contextmanager
def started(engine: Engine) -> Iterator[Engine]:
    """Starts an engine, which need not be ready yet, and kills it at the end of the block."""
    engine.start()
    try:
        yield engine
    finally:
        engine.kill()


@contextmanager
def thawed(engine: Engine) -> Iterator[Engine]:
    """Lets a frozen engine run while the block lasts."""
    engine.thaw()
    try:
        yield engine
    finally:
        engine.freeze()


def vllm_engine(built: BuiltModel, pod: PodFolders, log: Path) -> Engine:
    """Returns vLLM as `ftm run` starts it on processors, where it compiles nothing."""
    port = free_port()
    environment = {
        **CPU_ENVIRONMENT,
        **vllm.OFFLINE,
        "PYTHONPATH": f"{pod.guard}{os.pathsep}{os.environ['PYTHONPATH']}",
    }
    flags = [*vllm.arguments(built.model, built.plan, str(pod.model), port), *vllm.GUARD_FLAGS, "--host", ADDRESS]
    flags += ["--enforce-eager"]
    if built.plan.adapters:
        environment |= vllm.RUNTIME_ADAPTERS
    command = EngineCommand((sys.executable, "-m", vllm.MODULE, *flags), environment)
    return Engine(f"vLLM {log.stem}", command, port, log)


def llama_engine(built: BuiltModel, pod: PodFolders, threads: int, log: Path) -> Engine:
    """Returns llama-server as pods start it, with as many threads as the others."""
    program = Path(os.environ[LLAMA_CPP_VARIABLE], "bin", llama_server.NAME)
    port = free_port()
    flags = llama_server.arguments(built.model, built.plan, str(pod.model), port, ADDRESS)
    flags += ["--threads", str(threads), "--threads-batch", str(threads)]
    return Engine(f"llama-server {log.stem}", EngineCommand((str(program), *flags), {}), port, log)


def load_adapter(engine: Engine, guard: Path, name: str, folder: Path) -> None:
    """Has vLLM load an adapter, as the agent does."""
    with VllmClient(engine.url, read_secret(guard)) as client:
        client.load(name, folder)
