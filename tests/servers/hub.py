"""A fake of the Hugging Face hub: the endpoints that a client uses to list a model and to read its files.

What it does not prove is that the real hub still answers like this. Files of LFS are answered by a redirect to
another host, where the token must not appear.
"""

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_right"


@dataclass
class Hub:
    files: dict[str, bytes]
    endpoint: str = ""
    repository: str = "org/name"
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)
    private: bool = False
    gated: bool = False
    failures: list[int] = field(default_factory=list)
    """Statuses of the next answers, before it answers well again."""
    retry_after: int | None = None
    """Seconds that such an answer asks to wait."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Host, path and Authorization of each request."""
    ranges: bool = True

    def publish(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        host, authorization = self.headers["Host"].partition(":")[0], self.headers.get("Authorization", "")
        self.hub.requests.append((host, self.path, authorization))
        if self.hub.failures:
            asked = {"Retry-After": str(self.hub.retry_after)} if self.hub.retry_after else None
            self._answer(self.hub.failures.pop(0), b"busy", asked)
        elif self.path.startswith("/cdn/"):
            self._file(self.path.removeprefix("/cdn/"))
        elif self._may_read(authorization):
            self._hub()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _may_read(self, authorization: str) -> bool:
        right = authorization == f"Bearer {TOKEN}"
        if self.hub.private and not right:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            return False
        if self.hub.gated and not right and "/api/" not in self.path:
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
            return False
        return True

    def _hub(self) -> None:
        hub = self.hub
        api, _, revision = self.path.partition("?")[0].partition("/revision/")
        if api == f"/api/models/{hub.repository}":
            if revision and revision not in hub.revisions:
                self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            else:
                self._answer(200, json.dumps(self._info()).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith(f"/{hub.repository}/resolve/{COMMIT}/"):
            name = self.path.rpartition("/")[2]
            if name.endswith(".safetensors"):
                scheme, port = self.hub.endpoint.partition(":")[0], self.headers["Host"].partition(":")[2]
                self._answer(302, b"", {"Location": f"{scheme}://localhost:{port}/cdn/{name}"})
            else:
                self._file(name)
        elif self.path.startswith("/api/"):
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        else:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _info(self) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [{"rfilename": "onnx/model.onnx", "size": 1, "blobId": "0"}]
        for name, content in self.hub.files.items():
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
            }
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": self.hub.repository, "sha": COMMIT, "siblings": siblings}

    def _file(self, name: str) -> None:
        content = self.hub.files[name]
        asked = self.headers.get("Range")
        if asked and self.hub.ranges:
            first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            self._answer(206, part, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"})
        else:
            self._answer(200, content)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the tests' stderr."""


@contextmanager
def fake_hub(certificate: Path | None = None) -> Iterator[Hub]:
    """Over TLS with a certificate, and its key in the same file."""
    hub = Hub({})
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
