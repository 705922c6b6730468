"""A real S3 server for tests and the demo: SeaweedFS on free ports, with its own credentials per identity.

    with seaweedfs(tmp_path) as server:
        server.upload(MODELS, "base/smollm2", folder)
        server.client(ADMIN).list_objects_v2(Bucket="models")

Objects are uploaded with their sha256, as S3's own checksum and as user metadata, so that a reader can tell what an
object holds without reading it. Nothing here knows the operator or its Jobs.
"""

import base64
import hashlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
START_TIMEOUT_SECONDS = 300.0
VOLUME_SIZE_LIMIT_MB = 1024
SOCKETS = Path("/tmp")
"""SeaweedFS puts the sockets between its own parts here, and no option moves them."""

MODELS = "models"
"""The bucket that holds base models and adapters."""
ARTIFACTS = "artifacts"
"""The bucket that the merge Job writes to."""


@dataclass(frozen=True)
class Identity:
    """Who may do what. An action is Read, Write, List, Tagging or Admin, for all buckets or `Action:bucket`."""

    name: str
    actions: tuple[str, ...]


ADMIN = Identity("admin", ("Admin", "Read", "Write", "List", "Tagging"))
READER = Identity("models", (f"Read:{MODELS}", f"List:{MODELS}"))
WRITER = Identity("artifacts", tuple(f"{action}:{ARTIFACTS}" for action in ("Read", "Write", "List")))
IDENTITIES = (ADMIN, READER, WRITER)


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)

    @classmethod
    def random(cls) -> "Credentials":
        return cls(secrets.token_hex(10).upper(), secrets.token_hex(20))


@dataclass(frozen=True)
class Server:
    """A running server; it dies with the context manager that made it."""

    endpoint: str
    credentials: dict[str, Credentials]
    """By name of identity."""
    log: Path

    def secret(self, identity: Identity) -> dict[str, str]:
        """Returns the content of a Kubernetes Secret for this identity, and equally of a process's environment."""
        credentials = self.credentials[identity.name]
        return {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def client(self, identity: Identity = ADMIN) -> "S3Client":
        credentials = self.credentials[identity.name]
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 2},
                connect_timeout=5,
                read_timeout=60,
            ),
        )

    def put(self, bucket: str, key: str, body: bytes) -> str:
        """Store one object with its sha256 declared; returns the sha256 in hex."""
        digest = hashlib.sha256(body)
        self.client().put_object(
            Bucket=bucket,
            Key=key,
            Body=body,
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            Metadata={"sha256": digest.hexdigest()},
        )
        return digest.hexdigest()

    def upload(self, bucket: str, prefix: str, folder: Path) -> str:
        """Store a folder's files below a prefix, each with its sha256 declared; returns the s3:// URI."""
        client = self.client()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
                file.seek(0)
                client.put_object(
                    Bucket=bucket,
                    Key=f"{prefix}/{path.relative_to(folder).as_posix()}",
                    Body=file,
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                    Metadata={"sha256": digest.hexdigest()},
                )
        return f"s3://{bucket}/{prefix}"


@contextmanager
def seaweedfs(
    directory: Path,
    identities: Sequence[Identity] = IDENTITIES,
    buckets: Sequence[str] = (MODELS, ARTIFACTS),
    address: str = "127.0.0.1",
) -> Iterator[Server]:
    """Run a server whose data lies in `directory` until the block ends, listening on `address` alone.

    ADMIN is always among the identities, since it makes the buckets. Raises RuntimeError, with the end of the
    server's log, when it does not come up. The thread that enters the block must outlive it: the server is killed
    with it, so that even a killed test run leaves no server behind.
    """
    directory.mkdir(parents=True, exist_ok=True)
    everyone = {identity.name: identity for identity in (ADMIN, *identities)}
    credentials = {name: Credentials.random() for name in everyone}
    config = directory / "s3.json"
    config.touch(mode=0o600)
    config.write_text(_s3_config(everyone, credentials))
    (directory / "data").mkdir(exist_ok=True)
    ports = _free_ports(address)
    log = directory / "weed.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            _command(directory, config, address, ports),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://{address}:{ports['s3.port']}", credentials, log)
    try:
        _create_buckets(server, process, buckets)
        yield server
    finally:
        process.kill()
        process.wait()
        for port in ports.values():
            for left in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def _command(directory: Path, config: Path, address: str, ports: dict[str, int]) -> list[str]:
    options = {
        "dir": directory / "data",
        "ip": address,
        "ip.bind": address,
        "s3.config": config,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": "",
        "s3.autoCreateBucket": "false",
        "filer.localSocket": "",
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": VOLUME_SIZE_LIMIT_MB,
        "volume.max": 64,
        "volume.minFreeSpace": "1GiB",
        **ports,
    }
    dies_with_its_parent = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    flags = [f"-{name}={value}" for name, value in options.items()]
    return [*dies_with_its_parent, _weed(), "-logtostderr=true", "server", "-s3", *flags]


def _weed() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError(f"weed is not beside {sys.executable} nor on PATH: run `make venv`")
    return found


def _s3_config(identities: dict[str, Identity], credentials: dict[str, Credentials]) -> str:
    return json.dumps(
        {
            "identities": [
                {
                    "name": name,
                    "credentials": [
                        {"accessKey": credentials[name].access_key, "secretKey": credentials[name].secret_key}
                    ],
                    "actions": list(identity.actions),
                }
                for name, identity in identities.items()
            ]
        }
    )


def _free_ports(address: str) -> dict[str, int]:
    """A free port for each of SeaweedFS's listeners, all held open until every one is chosen."""
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    with _sockets(address, len(names)) as ports:
        return dict(zip(names, ports, strict=True))


@contextmanager
def _sockets(address: str, count: int) -> Iterator[list[int]]:
    held = [socket.create_server((address, 0)) for _ in range(count)]
    try:
        yield [listener.getsockname()[1] for listener in held]
    finally:
        for listener in held:
            listener.close()


def _create_buckets(server: Server, process: "subprocess.Popen[bytes]", buckets: Sequence[str]) -> None:
    client = server.client()
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    for bucket in buckets:
        while True:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key=".ready", Body=b"")
                client.delete_object(Bucket=bucket, Key=".ready")
                break
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = "".join(server.log.read_text(errors="replace").splitlines(keepends=True)[-20:])
                    raise RuntimeError(f"SeaweedFS at {server.endpoint} did not come up: {error}\n{tail}") from error
                time.sleep(0.1)
