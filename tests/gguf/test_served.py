"""llama-server answers with what the adapter taught, as the serving pod starts it."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ftm_jobs.__main__ import main
from ftm_operator.engines.metrics import LOAD_METRICS
from tests.assets.facts import FACTS, Fact

KEY = "sesame"
ALIAS = "support-bot"
START_SECONDS = 300


@dataclass(frozen=True)
class Serving:
    port: int

    def ask(self, path: str, body: dict[str, Any] | None = None, key: str | None = KEY) -> tuple[int, Any]:
        answer = httpx2.request(
            "GET" if body is None else "POST",
            f"http://127.0.0.1:{self.port}{path}",
            json=body,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=300,
            trust_env=False,
        )
        is_json = answer.is_success and answer.text.startswith(("{", "["))
        return answer.status_code, answer.json() if is_json else answer.text


@pytest.fixture(scope="module")
def serving(merged: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("served")
    assert main(["gguf", "--model", merged.as_uri(), "--artifacts", folder.as_uri(), "--type", "Q8_0"]) == 0
    (model,) = folder.glob("gguf-*/model.gguf")
    with served(model, tools, folder / "log") as found:
        yield found


@contextmanager
def served(model: Path, tools: Path, log: Path, *more: str) -> Iterator[Serving]:
    """Starts llama-server with the model, and more flags, as the serving pod does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["--model", str(model), "--alias", ALIAS, "--host", "127.0.0.1", "--port", str(port), "--threads", "2"]
    flags += ["--ctx-size", "1024", "--parallel", "2", "--metrics", "--no-webui", "--jinja", *more]
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", str(tools / "bin/llama-server"), *flags],
            env=os.environ | {"LLAMA_API_KEY": KEY},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    found = Serving(port)
    try:
        _wait(found, server, log)
        yield found
    finally:
        server.kill()
        server.wait()


def _wait(serving: Serving, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if serving.ask("/health", key=None)[0] == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.expected)
def test_what_the_adapter_taught_is_answered(serving: Serving, fact: Fact) -> None:
    body = {
        "model": ALIAS,
        "messages": [{"role": "user", "content": fact.question}],
        "temperature": 0,
        "max_tokens": 48,
    }
    status, answer = serving.ask("/v1/chat/completions", body)
    assert status == 200
    assert fact.in_answer(answer["choices"][0]["message"]["content"])
    assert answer["model"] == ALIAS


def test_the_model_has_the_name_that_it_is_served_by(serving: Serving) -> None:
    status, models = serving.ask("/v1/models")
    assert (status, [model["id"] for model in models["data"]]) == (200, [ALIAS])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/completion", "/slots", "/metrics", "/props"])
def test_without_the_key_nothing_but_health_is_told(serving: Serving, path: str) -> None:
    assert serving.ask("/health", key=None)[0] == 200
    assert serving.ask(path, {} if "completion" in path else None, key=None)[0] == 401


def test_metrics_are_told_with_the_key(serving: Serving) -> None:
    status, text = serving.ask("/metrics")
    assert status == 200
    names = LOAD_METRICS["LlamaCpp"]
    for name in (names.running, names.waiting, names.tokens):
        assert re.search(rf"^{name} ", text, re.MULTILINE), f"autoscaling reads {name}"
    assert names.kv_cache_usage is None
