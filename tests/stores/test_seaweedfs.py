"""The S3 server of the tests keeps its promises: credentials that reach no further than they should, and no traces."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.servers.seaweedfs import ADMIN, ARTIFACTS, IDENTITIES, MODELS, READER, WRITER, Identity, Server, seaweedfs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("identity", "bucket", "may_read", "may_write"),
    [
        (ADMIN, MODELS, True, True),
        (ADMIN, ARTIFACTS, True, True),
        (READER, MODELS, True, False),
        (READER, ARTIFACTS, False, False),
        (WRITER, ARTIFACTS, True, True),
        (WRITER, MODELS, False, False),
    ],
    ids=lambda value: value.name if isinstance(value, Identity) else str(value),
)
def test_an_identity_reaches_what_its_actions_say(
    server: Server, identity: Identity, bucket: str, may_read: bool, may_write: bool
) -> None:
    server.put(bucket, "identities/there", b"content")
    client = server.client(identity)

    def allowed(operation: str, **arguments: object) -> bool:
        try:
            getattr(client, operation)(Bucket=bucket, **arguments)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "AccessDenied":
                raise
            return False
        return True

    assert allowed("get_object", Key="identities/there") == may_read
    assert allowed("list_objects_v2") == may_read
    assert allowed("put_object", Key="identities/new", Body=b"") == may_write


def test_each_identity_has_credentials_of_its_own(server: Server) -> None:
    assert len({server.credentials[identity.name].access_key for identity in IDENTITIES}) == len(IDENTITIES)
    assert server.credentials[ADMIN.name].secret_key not in repr(server)


def test_an_uploaded_folder_declares_the_sha256_of_each_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"x" * 10_000_000)
    assert server.upload(MODELS, "identities/folder", tmp_path) == f"s3://{MODELS}/identities/folder"
    head = server.client(READER).head_object(Bucket=MODELS, Key="identities/folder/below/file")
    assert head["Metadata"]["sha256"] == hashlib.sha256(b"x" * 10_000_000).hexdigest()


def test_nothing_runs_and_no_socket_is_left_afterwards(tmp_path: Path) -> None:
    with seaweedfs(tmp_path) as server:
        port = server.endpoint.rpartition(":")[2]
        assert _listening(port)
    assert not _listening(port)
    assert not list(Path("/tmp").glob(f"seaweedfs-*{port}.sock"))


def test_a_killed_test_run_leaves_no_server(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.servers.seaweedfs import seaweedfs\n"
        "with seaweedfs(Path(sys.argv[1])) as server: print(server.endpoint, flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    port = process.stdout.readline().strip().rpartition(":")[2]
    assert _listening(port)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 120
    while _listening(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _listening(port)


def _listening(port: str) -> bool:
    """Returns whether a socket of this machine listens on the port."""
    local_and_state = [line.split()[1:4:2] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [f"0100007F:{int(port):04X}", "0A"] in local_and_state
