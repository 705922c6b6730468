"""A real registry for tests: Debian's docker-registry on a free port, with a password, or with an authority of tokens.

    with registry(tmp_path) as server:
        push(to=f"{server.host}/models", credentials=server.config())

The authority is a fake: it signs what the registry asks for, for one user. The registry proves its tokens for real.
"""

import base64
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.cache import cache
from tests.cluster.certificates import Authority, Pair

USER, PASSWORD = "pusher", "not-a-secret"
HTPASSWD = f"{USER}:$2b$04$DLexvAXfcRfTZ7xZ.4UuResDFHQagqWKn09LAOGPn3Hl639E..Ari\n"
"""PASSWORD by bcrypt, with few rounds."""
IDENTITY = "a-token-for-tokens"
SERVICE, ISSUER = "registry-under-test", "authority-under-test"
PACKAGE = "docker-registry"
START_SECONDS = 300.0


@dataclass(frozen=True)
class RegistryServer:
    """A running registry."""

    host: str
    """ADDRESS:PORT."""
    folder: Path
    """Its data, by /docker/registry/v2."""
    log: Path

    def config(self, *, identity: bool = False, password: str = PASSWORD, host: str | None = None) -> dict[str, str]:
        """Returns the content of a Secret with its credentials."""
        own = {"identitytoken": IDENTITY} if identity else {}
        login = {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode(), **own}
        return {".dockerconfigjson": json.dumps({"auths": {host or self.host: login}})}

    def pull_secret(self, name: str) -> dict[str, Any]:
        """Returns a Secret with which a kubelet pulls, and a Job pushes."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": self.config(),
        }

    def requests(self, method: str, part: str) -> int:
        """Counts the requests of this method whose path has this part, by the registry's own log."""
        return sum(f'"{method} ' in line and part in line for line in self.log.read_text().splitlines())

    def get(self, path: str, media_type: str = "*/*") -> httpx2.Response:
        """Returns what the registry answers to a user of the password."""
        url = f"http://{self.host}/v2/{path}"
        return httpx2.get(url, auth=(USER, PASSWORD), headers={"Accept": media_type}, follow_redirects=True)


@dataclass
class TokenAuthority:
    """What was asked of the authority."""

    signer: Pair
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and scope of each request that it granted."""

    def token(self, scope: str) -> str:
        kind, name, actions = scope.split(":")
        certificate = x509.load_pem_x509_certificate(self.signer.certificate.read_bytes())
        chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        now = int(time.time())
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": USER, "nbf": now - 10, "exp": now + 300, "access": access}
        key = self.signer.key.read_bytes()
        return jwt.encode(claims, key, algorithm="ES256", headers={"x5c": chain})


@contextmanager
def registry(folder: Path, *, tokens: bool = False, address: str = "127.0.0.1") -> Iterator[RegistryServer]:
    """Runs a registry whose data lies in the folder until the block ends, listening on the address alone."""
    folder.mkdir(parents=True, exist_ok=True)
    if not tokens:
        (folder / "htpasswd").write_text(HTPASSWD)
        with _running(folder, {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}, address) as server:
            yield server
        return
    with token_authority(folder) as (_, auth), _running(folder, auth, address) as server:
        yield server


@contextmanager
def token_authority(folder: Path) -> Iterator[tuple[TokenAuthority, dict[str, Any]]]:
    """Runs an authority until the block ends; yields it, and the registry's settings for it."""
    signing = Authority(folder / "authority")
    authority = TokenAuthority(signing.sign("signer", "signer"))

    class Handler(_TokenHandler):
        granting = authority

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    realm = f"http://127.0.0.1:{server.server_port}/token"
    bundle = str(signing.certificate)
    try:
        yield authority, {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}
    finally:
        server.shutdown()
        server.server_close()


class _TokenHandler(BaseHTTPRequestHandler):
    granting: TokenAuthority

    def do_GET(self) -> None:
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._grant(urlsplit(self.path).query, may=self.headers.get("Authorization") == f"Basic {basic}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        grant = parse_qs(body)
        may = (grant.get("grant_type"), grant.get("refresh_token")) == (["refresh_token"], [IDENTITY])
        self._grant(body, may=may)

    def _grant(self, query: str, *, may: bool) -> None:
        (scope,) = parse_qs(query)["scope"]
        content = json.dumps({"token": self.granting.token(scope)} if may else {}).encode()
        if may:
            self.granting.asked.append((self.command, scope))
        self.send_response(200 if may else 401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _running(folder: Path, auth: dict[str, Any], address: str) -> Iterator[RegistryServer]:
    with closing(socket.create_server((address, 0))) as held:
        host = f"{address}:{held.getsockname()[1]}"
    settings = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": False}, "level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": host},
        "auth": auth,
    }
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    server = RegistryServer(host, folder / "data", folder / "registry.log")
    guarded = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    with server.log.open("ab") as output:
        command = [*guarded, _program(), "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        _await(server, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _await(server: RegistryServer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx2.HTTPError):
            httpx2.get(f"http://{server.host}/v2/")
            return
        time.sleep(0.05)
    raise RuntimeError(f"docker-registry at {server.host} did not come up: {server.log.read_text()[-2000:]}")


def _program() -> str:
    """Returns the registry's program: the machine's own, or that of Debian's package in the user's cache."""
    if found := shutil.which(PACKAGE):
        return found
    kept = cache(PACKAGE)
    program = kept / "usr/bin/docker-registry"
    if not program.exists():
        kept.mkdir(parents=True, exist_ok=True)
        for command in (["apt-get", "download", PACKAGE], ["sh", "-c", f"dpkg-deb -x {PACKAGE}_*.deb ."]):
            done = subprocess.run(command, cwd=kept, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
    return str(program)
