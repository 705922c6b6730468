"""`ftm merge` that is stopped while its upload is under way: both its processes end, and S3 holds nothing of it."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.models.llamas import medium
from tests.places import S3
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import READER

MIB = 1024 * 1024
FTM = str(Path(sys.executable).with_name("ftm"))
SENTENCE = "ftm: stopped; run the same command again: it goes on from what is finished"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return medium(tmp_path_factory.mktemp("medium"))


@pytest.fixture
def between(s3: S3) -> Iterator[Proxy]:
    """Holds back the last block: what comes before it is on its way to the store."""
    with proxy(s3.server.endpoint) as found:
        found.hold_from = 32 * MIB
        yield found


@pytest.fixture
def command(s3: S3, between: Proxy, sources: tuple[Path, Path]) -> list[str]:
    base, adapter = sources
    reader = s3.secret(READER, AWS_ENDPOINT_URL=between.endpoint)
    through = f"{s3.upload(base).partition(',')[0]},credentials={reader}"
    return [FTM, "merge", "--base", through, "--adapter", s3.upload(adapter), "--out", s3.artifacts]


def wait_for_upload(s3: S3, between: Proxy) -> None:
    assert between.holding.wait(600)
    deadline = time.monotonic() + 120
    while not s3.unfinished() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert s3.unfinished() == 1


def jobs_of(command: list[str]) -> str:
    """The processes, whoever their parent is, that merge into the command's folder."""
    return subprocess.run(["pgrep", "-f", f"ftm_jobs merge .*{command[-1]}"], capture_output=True, text=True).stdout


def test_sigterm_leaves_no_upload_and_one_sentence(s3: S3, between: Proxy, command: list[str]) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_upload(s3, between)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err.splitlines()[-1]) == (143, "", SENTENCE)
    assert "Traceback" not in err
    assert (s3.built(), s3.unfinished(), jobs_of(command)) == ({}, 0, "")


def test_ctrl_c_on_a_terminal_does_too_and_the_sentence_has_a_line_of_its_own(
    s3: S3, between: Proxy, command: list[str]
) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    wait_for_upload(s3, between)
    os.write(terminal, b"\x03")
    shown = b""
    with suppress(OSError):  # the terminal's end, once nobody writes to it
        while data := os.read(terminal, 65536):
            shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    before, last, nothing = shown.decode().rsplit("\r\n", 2)
    assert (last, nothing) == (SENTENCE, "")
    assert before.splitlines()[-1].lstrip().startswith("merge: "), before
    assert (s3.built(), s3.unfinished(), jobs_of(command)) == ({}, 0, "")


def test_the_merge_of_a_command_that_was_killed_does_not_go_on_alone(
    s3: S3, between: Proxy, command: list[str]
) -> None:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for_upload(s3, between)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while jobs_of(command) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (s3.built(), s3.unfinished(), jobs_of(command)) == ({}, 0, "")
