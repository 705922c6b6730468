"""A question to an engine is answered or fails with a sentence, and an engine that starts is waited for."""

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from ftm_operator.local import engine as local_engine
from ftm_operator.local.engine import RunningEngine
from ftm_operator.local.engine_client import EngineClient, NoAnswer
from ftm_operator.local.errors import LocalError

SILENT = EngineClient("http://127.0.0.1:1", "bot")


class Endpoint(BaseHTTPRequestHandler):
    """Answers as an engine does, and is unhealthy as long as `unhealthy` counts down."""

    asked: ClassVar[list[Any]] = []
    status = 200
    unhealthy = 0

    def do_GET(self) -> None:
        starting, Endpoint.unhealthy = Endpoint.unhealthy > 0, Endpoint.unhealthy - 1
        self._send(503 if starting else 200, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.asked.append((self.path, body))
        answer = json.dumps({"choices": [{"message": {"content": "Lyon"}}]})
        self._send(Endpoint.status, answer if Endpoint.status == 200 else "no such model")

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Stays silent."""


@pytest.fixture
def client() -> Iterator[EngineClient]:
    Endpoint.asked, Endpoint.status, Endpoint.unhealthy = [], 200, 0
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield EngineClient(f"http://127.0.0.1:{server.server_port}", "bot")
        server.shutdown()


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def test_a_question_is_one_greedy_chat_completion(client: EngineClient) -> None:
    assert client.ask("Where?", most_tokens=5) == "Lyon"
    message = {"role": "user", "content": "Where?"}
    assert Endpoint.asked == [
        ("/v1/chat/completions", {"model": "bot", "messages": [message], "temperature": 0, "max_tokens": 5})
    ]


def test_a_refusal_is_an_error_with_the_endpoints_own_words(client: EngineClient) -> None:
    Endpoint.status = 404
    with pytest.raises(NoAnswer, match=r"refused 'Where\?' with status 404: no such model"):
        client.ask("Where?")


def test_an_engine_that_is_not_there_is_not_ready_and_gives_no_answer() -> None:
    assert not SILENT.is_ready()
    with pytest.raises(NoAnswer, match=r"http://127.0.0.1:1 did not answer 'Where\?'"):
        SILENT.ask("Where?")


def test_a_starting_engine_is_waited_for_and_told_of(
    client: EngineClient,
    process: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(local_engine, "ATTEMPT_SECONDS", 0.01)
    Endpoint.unhealthy = 12
    log = io.BytesIO(b"INFO 01-01 [loader.py:1] no\n(E) INFO 01-01 [loader.py:2] Loading weights\n")
    local_engine._await_engine(RunningEngine(client, process), log)
    starting, ready = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"ftm: the engine is starting, \d+ s: Loading weights", starting)
    assert re.fullmatch(r"ftm: the engine is ready after \d+ s", ready)


def test_an_engine_that_ends_is_an_error_with_the_end_of_its_log(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    with pytest.raises(LocalError, match=r"ended with exit code -9; its last lines:\nout of memory"):
        local_engine._await_engine(RunningEngine(SILENT, process), io.BytesIO(b"out of memory\n"))


def test_an_engine_that_does_not_get_ready_is_given_up(
    process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_engine, "ENGINE_START_SECONDS", 0)
    with pytest.raises(LocalError, match=r"not ready after 0 s; its last lines:\nstill compiling"):
        local_engine._await_engine(RunningEngine(SILENT, process), io.BytesIO(b"still compiling\n"))


def test_an_adapter_of_llama_cpp_is_asked_by_its_number(client: EngineClient) -> None:
    replace(client, adapter=1).ask("Where?")
    client.ask("Where?")
    assert [body.get("lora") for _, body in Endpoint.asked] == [[{"id": 1, "scale": 1}], None]
