"""Steps that are cut, held up, stopped or killed, on a real S3 server: they finish, or nothing looks complete."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from tests.models.llamas import medium
from tests.places import S3, Disk
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import READER, WRITER
from tests.step_fixtures import Run

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of 40 MiB, which its upload needs several parts for, and an adapter."""
    return medium(tmp_path_factory.mktemp("medium"))


@pytest.fixture
def between(s3: S3) -> Iterator[Proxy]:
    with proxy(s3.server.endpoint) as found:
        yield found


@pytest.fixture
def arguments(s3: S3, between: Proxy, sources: tuple[Path, Path]) -> list[str]:
    """A merge whose base comes through the proxy."""
    base, adapter = sources
    uri = s3.upload(base, "base").partition(",")[0]
    through = f"{uri},credentials={s3.secret(READER, AWS_ENDPOINT_URL=between.endpoint)}"
    return ["merge", "--base", through, "--adapter", s3.upload(adapter), "--artifacts", s3.artifacts]


def undisturbed(sources: tuple[Path, Path], tmp_path: Path, run: Run) -> dict[str, bytes]:
    base, adapter = sources
    place = Disk(tmp_path / "undisturbed")
    run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", place.artifacts)
    return {name: content for name, content in place.built().items() if not name.endswith(MANIFEST_NAME)}


def built(s3: S3) -> dict[str, bytes]:
    return {name: content for name, content in s3.built().items() if not name.endswith(MANIFEST_NAME)}


def begin(arguments: list[str], between: Proxy) -> "subprocess.Popen[str]":
    """The step as a process whose reading is held up where its upload has parts already."""
    between.hold_from = 32 * MIB  # the last block: the stages before the upload hold those before it
    process = subprocess.Popen([sys.executable, "-m", "ftm_jobs", *arguments], stdout=subprocess.PIPE, text=True)
    assert between.holding.wait(600)
    return process


def wait_for_upload(s3: S3) -> None:
    deadline = time.monotonic() + 120
    while not s3.unfinished() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert s3.unfinished() == 1


def test_answers_that_break_off_are_asked_for_again(
    s3: S3, between: Proxy, arguments: list[str], sources: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    between.cut_at = [5 * MIB, 12 * MIB, 23 * MIB, 31 * MIB]
    assert run(*arguments).reason == "Merged"
    assert between.cuts == 4
    assert built(s3) == undisturbed(sources, tmp_path, run)


def test_fetch_asks_again_too(s3: S3, sources: tuple[Path, Path], between: Proxy, tmp_path: Path, run: Run) -> None:
    base, adapter = sources
    merged = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", s3.artifacts)
    assert merged.artifact
    between.cut_at = [4 * MIB, 9 * MIB, 30 * MIB]
    secret = s3.secret(WRITER, AWS_ENDPOINT_URL=between.endpoint)
    report = run("fetch", "--artifact", f"{merged.artifact.uri},credentials={secret}", "--to", str(tmp_path / "to"))
    assert report.reason == "Fetched"
    assert between.cuts == 3
    wanted = undisturbed(sources, tmp_path, run)
    for name, content in wanted.items():
        assert (tmp_path / "to" / name.partition("/")[2]).read_bytes() == content


def test_sigterm_ends_a_merge_that_is_held_up_and_leaves_no_upload(
    s3: S3, between: Proxy, arguments: list[str]
) -> None:
    process = begin(arguments, between)
    wait_for_upload(s3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=600)
    report = Report.model_validate_json(output.splitlines()[-1])
    assert (process.returncode, report.outcome, report.reason) == (1, Outcome.FAILED, "Interrupted")
    assert s3.built() == {}
    assert s3.unfinished() == 0


def test_a_killed_merge_leaves_nothing_that_looks_complete_and_the_next_one_finishes(
    s3: S3, between: Proxy, arguments: list[str], sources: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    process = begin(arguments, between)
    wait_for_upload(s3)
    process.kill()
    process.wait()
    assert s3.built() == {}
    assert s3.unfinished() == 1
    between.hold_from = None
    between.released.set()
    assert run(*arguments).reason == "Merged"
    assert s3.unfinished() == 0
    assert built(s3) == undisturbed(sources, tmp_path, run)


def test_a_merge_whose_upload_another_run_removed_finds_that_runs_artifact(
    s3: S3, between: Proxy, arguments: list[str], sources: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    process = begin(arguments, between)
    wait_for_upload(s3)
    direct = [argument.replace(between.endpoint, s3.server.endpoint) for argument in arguments]
    direct[2] = s3.upload(sources[0], "again")
    winner = run(*direct)
    assert (winner.reason, s3.unfinished()) == ("Merged", 0)
    between.hold_from = None
    between.released.set()
    output, _ = process.communicate(timeout=600)
    loser = Report.model_validate_json(output.splitlines()[-1])
    assert (loser.reason, loser.artifact) == ("AlreadyMerged", winner.artifact)
    assert s3.unfinished() == 0
    assert built(s3) == undisturbed(sources, tmp_path, run)


def test_a_killed_fetch_leaves_no_half_file_under_a_final_name(
    s3: S3, sources: tuple[Path, Path], between: Proxy, tmp_path: Path, run: Run
) -> None:
    base, adapter = sources
    merged = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", s3.artifacts)
    assert merged.artifact
    secret = s3.secret(WRITER, AWS_ENDPOINT_URL=between.endpoint)
    arguments = ["fetch", "--artifact", f"{merged.artifact.uri},credentials={secret}", "--to", str(tmp_path / "to")]
    process = begin(arguments, between)
    process.kill()
    process.wait()
    left = {path.name for path in (tmp_path / "to").iterdir() if not path.name.endswith(".partial")}
    assert MANIFEST_NAME not in left
    assert "model.safetensors" not in left
    between.hold_from = None
    between.released.set()
    assert run(*arguments).reason == "Fetched"
    assert not list((tmp_path / "to").glob(".*"))
    model = f"{merged.artifact.key}/model.safetensors"
    assert (tmp_path / "to" / "model.safetensors").read_bytes() == s3.built()[model]


def test_two_merges_at_once_make_one_artifact(s3: S3, sources: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    base, adapter = sources
    arguments = ["merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", s3.artifacts]
    command = [sys.executable, "-m", "ftm_jobs", *arguments]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    reports = [
        Report.model_validate_json(process.communicate(timeout=600)[0].splitlines()[-1]) for process in processes
    ]
    assert {report.outcome for report in reports} == {Outcome.DONE}
    assert reports[0].artifact == reports[1].artifact
    assert built(s3) == undisturbed(sources, tmp_path, run)
    assert s3.unfinished() == 0
