"""A real server with the API of an engine: it lists its models and streams an answer in two pieces."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

MODELS = [{"id": "bot", "root": "/nowhere/model"}, {"id": "law", "parent": "bot"}, {"id": "tax", "parent": "bot"}]


class OpenAI(http.server.BaseHTTPRequestHandler):
    """Answers `MODEL heard N` where N is the number of messages; waits before the end while `held` is not set."""

    asked: ClassVar[list[Any]] = []
    key: ClassVar[str | None] = None
    status: ClassVar[int] = 200
    held: ClassVar[threading.Event] = threading.Event()

    @classmethod
    def models(cls) -> list[str]:
        return [body["model"] for body in cls.asked]

    def do_GET(self) -> None:
        allowed = self.key is None or self.headers["Authorization"] == f"Bearer {self.key}"
        self._begin(200 if allowed else 401)
        self.wfile.write(json.dumps({"data": MODELS}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self._begin(self.status)
        if self.status != 200:
            self.wfile.write(b"the engine is out of memory")
            return
        self._send({"choices": [{"delta": {"content": f"{body['model']} "}}]})
        self.held.wait(120)
        self._send({"choices": [{"delta": {"content": f"heard {len(body['messages'])}"}}]})
        self._send({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def _send(self, document: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Stays silent."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stays silent about clients that hang up."""


@contextmanager
def openai_server() -> Iterator[str]:
    """Yields the server's address."""
    OpenAI.asked.clear()
    OpenAI.key, OpenAI.status = None, 200
    OpenAI.held.set()
    with _Server(("127.0.0.1", 0), OpenAI) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        OpenAI.held.set()
        server.shutdown()
