"""A fake of the Hugging Face hub: the endpoints by which a client lists a model, reads its files and uploads some.

What it does not prove is that the real hub still answers like this. Files of LFS are answered by a redirect to another
host, where the token must not appear. Uploads are those of git LFS, without Xet.
"""

import base64
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

UPLOADS = "org/merged"
"""The repository that can be created and written to."""
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
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of each branch of UPLOADS, once the repository is created."""
    made: list[dict[str, Any]] = field(default_factory=list)
    """What was asked for each time a repository was to be created."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Uploaded objects of LFS, by sha256."""

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

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        authorization, path = self.headers.get("Authorization", ""), self.path
        self.hub.requests.append((self.headers["Host"].partition(":")[0], path, authorization))
        if path == "/api/validate-yaml":
            self._json({})
        elif not authorization:
            self._answer(401, b"")
        elif authorization != f"Bearer {TOKEN}":
            self._answer(403, b"")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            self.hub.made.append(asked)
            known = bool(self.hub.branches)
            self.hub.branches.setdefault("main", {".gitattributes": b""})
            self._json({"url": f"{self.hub.endpoint}/{asked['organization']}/{asked['name']}"}, 409 if known else 200)
        else:
            self._upload(path, body)

    def _upload(self, path: str, body: bytes) -> None:
        hub, branch = self.hub, path.rpartition("/")[2]
        if path.startswith(f"/api/models/{UPLOADS}/branch/"):
            known = branch in hub.branches
            hub.branches.setdefault(branch, dict(hub.branches["main"]))
            self._answer(409 if known else 200, b"")
        elif path.startswith(f"/api/models/{UPLOADS}/preupload/"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif path == f"/{UPLOADS}.git/info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            for found in objects:
                if found["oid"] not in hub.stored:
                    found["actions"] = {"upload": {"href": f"{hub.endpoint}/lfs/{found['oid']}"}}
            self._json({"transfer": "basic", "objects": objects})
        elif path.startswith(f"/api/models/{UPLOADS}/commit/"):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.branches[branch][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.branches[branch][value["path"]] = hub.stored[value["oid"]]
            self._json({"commitUrl": f"{hub.endpoint}/{UPLOADS}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._answer(404, b"")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.failures:
            self._answer(self.hub.failures.pop(0), b"busy")
            return
        self.hub.stored[hashlib.sha256(content).hexdigest()] = content
        self._answer(200, b"")

    def _json(self, content: dict[str, Any], status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

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
        if f"/{UPLOADS}" in self.path and hub.branches:
            self._uploaded()
            return
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

    def _uploaded(self) -> None:
        """Answers what was uploaded: a branch's list, or a file of the one that was listed last."""
        hub = self.hub
        if self.path.startswith("/api/"):
            branch = self.path.partition("?")[0].partition("/revision/")[2] or "main"
            hub.files = hub.branches[branch]
            self._json({**self._info(), "id": UPLOADS, "siblings": [
                {"rfilename": name, "size": len(content), "blobId": "0"} for name, content in hub.files.items()
            ]})  # fmt: skip
        else:
            self._file(self.path.partition(f"/resolve/{COMMIT}/")[2])

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
