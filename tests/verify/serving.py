"""Engines that serve a model on localhost, for as long as a test needs them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.llama_cpp import prepare
from tests.servers.vllm import ENVIRONMENT

NAME = "support-bot"
START_SECONDS = 900


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def vllm(model: Path, log: Path) -> Iterator[str]:
    """The address of vLLM's CPU build."""
    port = free_port()
    flags = ["--model", str(model), "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    flags += ["--dtype", "bfloat16", "--max-model-len", "512", "--max-num-seqs", "8", "--enforce-eager"]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *flags]
    with _running(command, port, log, ENVIRONMENT) as url:
        yield url


@contextmanager
def llama_server(model: Path, log: Path, *flags: str, port: int = 0) -> Iterator[str]:
    """The address of llama.cpp's server."""
    port = port or free_port()
    command = [str(prepare() / "bin/llama-server"), "--model", str(model), "--alias", NAME, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--threads", "1", "--ctx-size", "1024", "--parallel", "2", "--no-webui", "--jinja"]
    with _running([*command, *flags], port, log, {}) as url:
        yield url


@contextmanager
def _running(command: Sequence[str], port: int, log: Path, settings: dict[str, str]) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            env=os.environ | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_up(url):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(300)


def _is_up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", timeout=5, trust_env=False).is_success
    except httpx2.TransportError:
        return False
