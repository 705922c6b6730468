"""A pod of llama-server ends once no request is in flight: the script before its end, run against a stand-in."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from ftm_operator.api.errors import parse
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.serving.engine import ServedModel, ServedWeights
from ftm_operator.resources.serving.llama_server import drain_script, llama_server_container
from ftm_operator.steps.source import SourceArgument
from tests.unit.operator.objects import SETTINGS, facts, resource

METRICS = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing {}\nllamacpp:requests_deferred 0\n"


@contextmanager
def answering(*processing: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the port of a server whose metrics say these numbers in turn, and the keys that it was sent."""
    left, keys = list(processing), []

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS.format(left.pop(0)).encode())

        def log_message(self, *_: object) -> None:
            """Keeps requests out of the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, keys
    finally:
        server.shutdown()
        server.server_close()


def run(port: int, most: int = 30) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LLAMA_API_KEY": "key"}
    return subprocess.run(["/bin/sh", "-c", drain_script(port, 0, most)], env=environment, timeout=120, check=False)


def test_it_asks_with_the_engines_key_until_nothing_is_in_flight() -> None:
    with answering(2, 1, 0, 0) as (port, keys):
        assert run(port).returncode == 0
    assert keys == ["Bearer key"] * 3


def test_it_ends_at_its_last_second_whatever_is_in_flight() -> None:
    with answering(1, 1, 1, 1) as (port, keys):
        assert run(port, most=2).returncode == 0
    assert len(keys) == 2


def test_an_engine_that_is_gone_is_not_waited_for() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert run(unused.getsockname()[1]).returncode == 0


def test_an_image_of_the_users_may_have_no_shell_and_gets_a_pause() -> None:
    source = SourceArgument("artifacts", "s3://models/built/gguf-1", None, "sha256:1")

    def before_stop(**serving: str) -> dict[str, object]:
        model = parse(FineTunedModel, resource(serving=serving))
        plan = Plan(engine="LlamaCpp", served_model_name="m", concurrency=1, max_model_len=512)
        weights = ServedWeights("--artifact", source, 1)
        made = llama_server_container(ServedModel(model, plan, facts(), weights, source), SETTINGS)
        handler: dict[str, object] = made["lifecycle"]["preStop"]
        return handler

    assert before_stop(image="registry.example/llama:1") == {"sleep": {"seconds": 15}}
    assert set(before_stop()) == {"exec"}
