"""A server drains before its pod ends: connections close after their answers, and the program waits for the last one.

The server is uvicorn, as vLLM's is; the app behind the guard is a stand-in, which answers once it is told to.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from ftm_jobs.contract.mounts import GUARD_HEADER, GUARD_MODULE
from ftm_jobs.serve.guard import DRAIN, DRAIN_HEADER
from ftm_jobs.serve.guard_files import read_secret, write_guard
from tests.unit.jobs.serve.test_guard import guarded

SLOW, QUICK = "/v1/chat/completions", "/v1/models"


class Answering:
    """Answers a slow request once it is told to, and others at once."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        while scope["path"] == SLOW and not self.may_end.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"last"})


@contextmanager
def running(folder: Path, app: Answering) -> Iterator[int]:
    """Yields the port of a server with the guard in front of the app."""
    front, _ = guarded(folder)
    front._app = app
    server = uvicorn.Server(uvicorn.Config(front, port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        app.may_end.set()
        server.should_exit = True
        thread.join()


def drained(folder: Path, port: int, least: float = 0.0, most: float = 60.0) -> "subprocess.Popen[str]":
    """Starts what the kubelet runs before it stops the engine's container."""
    command = [sys.executable, "-m", GUARD_MODULE, str(port), str(least), str(most)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_guard(tmp_path)
    return tmp_path


def test_it_returns_once_the_last_answer_has_ended_and_later_ones_close_their_connections(folder: Path) -> None:
    app = Answering()
    with running(folder, app) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert "connection" not in client.get(QUICK).headers
        with client.stream("POST", SLOW) as slow:
            parts = slow.iter_text()
            assert next(parts) == "first "
            program = drained(folder, port)
            while client.get(QUICK).headers.get("connection") != "close":
                time.sleep(0.01)
            assert program.poll() is None, "a request is in flight"
            app.may_end.set()
            assert "".join(parts) == "last"
        said = json.loads(program.communicate(timeout=60)[0])
        assert said["inFlightAtFirst"] == 1
        assert said["inFlight"] == 0
        assert client.get(QUICK).headers["connection"] == "close"


def test_it_waits_the_least_even_if_nobody_asks_and_no_longer_than_the_most(folder: Path) -> None:
    app = Answering()
    with running(folder, app) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        said = json.loads(drained(folder, port, least=0.5).communicate(timeout=60)[0])
        assert said["seconds"] >= 0.5
        with client.stream("POST", SLOW):
            said = json.loads(drained(folder, port, most=0.5).communicate(timeout=60)[0])
            assert said["inFlight"] == 1


def test_nobody_without_the_secret_makes_it_drain(folder: Path) -> None:
    with running(folder, Answering()) as port:
        headers = {DRAIN_HEADER.decode(): "0 1", GUARD_HEADER: "0" * 64}
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get(DRAIN, headers=headers).status_code == 404
            assert "connection" not in client.get(QUICK).headers
            assert client.get(DRAIN, headers={**headers, GUARD_HEADER: read_secret(folder)}).status_code == 200
            assert client.get(QUICK).headers["connection"] == "close"


def test_where_no_server_is_it_waits_the_least_all_the_same(folder: Path) -> None:
    began = time.monotonic()
    program = drained(folder, port=1, least=0.5)
    said, _ = program.communicate(timeout=60)
    assert time.monotonic() - began >= 0.5
    assert program.returncode == 0, "a hook that fails is a warning in the pod's events"
    assert "did not drain" in said
