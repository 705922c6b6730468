"""What the agent makes of an engine's answers, and what the kubelet is told; both over real HTTP."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest

from ftm_jobs.contract.mounts import GUARD_HEADER
from ftm_jobs.contract.run_time_adapters import WantedPrompt
from ftm_jobs.errors import Failed, InvalidInput, StepError
from ftm_jobs.serve.engine import VllmClient
from ftm_jobs.serve.readiness import readiness_server
from ftm_jobs.serve.trials import EngineError

WORKER = (
    "Call to add_lora method failed: Worker failed with error 'LoRA rank 16 is greater than max_lora_rank 8.', "
    "please check the stack trace above for the root cause"
)
ALONE = "Call to add_lora method failed: LoRA rank 16 is greater than max_lora_rank 8."


class Answers:
    """The answers of an engine by path, and what it was asked."""

    def __init__(self) -> None:
        self.by_path: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def client(answers: Answers) -> Iterator[VllmClient]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answers.asked.append((self.path, dict(self.headers), json.loads(body or "null")))
            status, content = answers.by_path.get(self.path, (404, {"detail": "Not Found"}))
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with VllmClient(f"http://127.0.0.1:{server.server_port}", "the-secret") as client:
        yield client
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "content", "kind", "words"),
    [
        (400, {"error": {"message": "has already been loaded."}}, InvalidInput, "has already been loaded."),
        (404, {"error": {"message": "No adapter found for /x"}}, EngineError, "No adapter found for /x"),
        (500, {"error": {"message": WORKER}}, EngineError, "LoRA rank 16 is greater than max_lora_rank 8."),
        (500, {"error": {"message": ALONE}}, EngineError, "LoRA rank 16 is greater than max_lora_rank 8."),
        (503, {"detail": "scaling"}, Failed, "/v1/load_lora_adapter answers 503: scaling"),
        (500, b"", EngineError, "status 500"),
        (401, {"error": "Unauthorized"}, InvalidInput, "Unauthorized"),
    ],
)
def test_errors_are_told_in_the_engines_words_by_their_kind(
    answers: Answers, client: VllmClient, status: int, content: Any, kind: type[StepError], words: str
) -> None:
    answers.by_path["/v1/load_lora_adapter"] = (status, content)
    with pytest.raises(StepError) as raised:
        client.load("support", Path("/x"))
    assert isinstance(raised.value, kind)
    assert raised.value.message.endswith(words)
    assert answers.asked[0][1][GUARD_HEADER] == "the-secret"


def test_an_engine_that_is_not_there_may_come_back() -> None:
    with VllmClient("http://127.0.0.1:9", "the-secret") as client:
        assert not client.is_up()
        with pytest.raises(Failed, match=r"the engine at http://127\.0\.0\.1:9: /v1/models"):
            client.folders()


def test_the_base_is_none_of_its_adapters(answers: Answers, client: VllmClient) -> None:
    models = [{"id": "base", "root": "/model", "parent": None}, {"id": "a", "root": "/adapters/0", "parent": "base"}]
    answers.by_path["/v1/models"] = (200, {"data": models})
    assert client.folders() == {"a": "/adapters/0"}


def test_unloading_what_is_not_there_is_no_error(answers: Answers, client: VllmClient) -> None:
    client.unload("gone")
    assert len(answers.asked) == 1


def test_a_model_without_a_chat_template_is_asked_the_text(answers: Answers, client: VllmClient) -> None:
    refused = {"error": {"message": "default chat template is no longer allowed, so you must provide a chat template"}}
    answers.by_path["/v1/chat/completions"] = (400, refused)
    answers.by_path["/v1/completions"] = (200, {"choices": [{"text": "tide lamps"}]})
    assert client.answer("support", WantedPrompt(prompt="What?")) == "tide lamps"
    assert answers.asked[1][2]["prompt"] == "What?"


@pytest.mark.parametrize(
    ("path", "reason", "status"),
    [("/ready", None, 200), ("/ready", "the engine does not answer", 503), ("/metrics", None, 404)],
)
def test_the_kubelet_is_told_why_a_pod_is_not_ready(path: str, reason: str | None, status: int) -> None:
    with readiness_server(0, lambda: reason) as port:
        answer = httpx2.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
    assert (answer.status_code, answer.text) == (status, f"{'not found' if status == 404 else reason or 'ready'}\n")


def test_a_port_that_is_taken_is_told() -> None:
    with (
        readiness_server(0, lambda: None) as port,
        pytest.raises(StepError, match=f"port {port}"),
        readiness_server(port, lambda: None),
    ):
        pass
