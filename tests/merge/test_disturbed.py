"""Merges while the server, the network or the disk fails: the same bytes as undisturbed, or one clear sentence.

Never anything that looks complete and is not. FTM_KILLS sets how many merges are killed in each place (default 25).
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.contract.report import Report
from tests.models.llamas import Kind, make_adapters, make_base, medium
from tests.places import S3, Disk, Place
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import READER, WRITER
from tests.step_fixtures import Run

MIB = 1024 * 1024
KILLS = int(os.environ.get("FTM_KILLS", "25"))
SLOW_DOWN = ("503 Slow Down", "SlowDown")
UNAVAILABLE = ("500 Internal Server Error", "InternalError")
TOO_MANY = ("429 Too Many Requests", "TooManyRequests")
EXPIRED = ("400 Bad Request", "ExpiredToken")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of 40 MiB in one file, and an adapter."""
    return medium(tmp_path_factory.mktemp("medium"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small base in several files, and an adapter."""
    folder, kind = tmp_path_factory.mktemp("sharded"), Kind(shard="60KB")
    base = make_base(folder / "base", kind)
    return base, make_adapters(folder, base, kind)[0]


@pytest.fixture
def between(s3: S3) -> Iterator[Proxy]:
    with proxy(s3.server.endpoint) as found:
        yield found


@pytest.fixture
def arguments(s3: S3, between: Proxy, sources: tuple[Path, Path]) -> list[str]:
    """A merge that reads and writes through the proxy."""
    base, adapter = (s3.upload(folder).partition(",")[0] for folder in sources)
    reader = s3.secret(READER, AWS_ENDPOINT_URL=between.endpoint)
    writer = s3.secret(WRITER, AWS_ENDPOINT_URL=between.endpoint)
    artifacts = f"{s3.artifacts.partition(',')[0]},credentials={writer}"
    return [
        "merge", "--base", f"{base},credentials={reader}", "--adapter", f"{adapter},credentials={reader}",
        "--artifacts", artifacts,
    ]  # fmt: skip


@pytest.fixture
def undisturbed(sources: tuple[Path, Path], tmp_path: Path, run: Run) -> dict[str, bytes]:
    return files_of(merged(sources, Disk(tmp_path / "undisturbed"), run))


def merged(sources: tuple[Path, Path], place: Place, run: Run) -> Place:
    base, adapter = sources
    run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", place.artifacts)
    return place


def files_of(place: Place) -> dict[str, bytes]:
    """Without the manifest, which names where the sources were."""
    return {name: content for name, content in place.built().items() if not name.endswith(MANIFEST_NAME)}


def test_connections_that_are_reset_are_made_again(
    s3: S3, between: Proxy, arguments: list[str], undisturbed: dict[str, bytes], run: Run
) -> None:
    between.reset = True
    between.cut_at = [3 * MIB, 11 * MIB, 22 * MIB, 35 * MIB]
    assert run(*arguments).reason == "Merged"
    assert between.cuts == 4
    assert files_of(s3) == undisturbed


@pytest.mark.parametrize("refusal", [SLOW_DOWN, UNAVAILABLE, TOO_MANY], ids=lambda refusal: str(refusal[0]))
def test_a_storm_of_refusals_passes(
    s3: S3, between: Proxy, arguments: list[str], undisturbed: dict[str, bytes], run: Run, refusal: tuple[str, str]
) -> None:
    between.refusals = [refusal, refusal, None] * 6
    assert run(*arguments).reason == "Merged"
    assert between.refused == 12
    assert files_of(s3) == undisturbed


def test_slow_answers_are_waited_for(
    s3: S3, between: Proxy, arguments: list[str], undisturbed: dict[str, bytes], run: Run
) -> None:
    between.delay_seconds = 0.004
    assert run(*arguments).reason == "Merged"
    assert files_of(s3) == undisturbed


def test_credentials_that_expire_midway_are_named_and_a_run_with_new_ones_finishes(
    s3: S3, between: Proxy, arguments: list[str], undisturbed: dict[str, bytes], run: Run
) -> None:
    between.refuse_after = (20 * MIB, *EXPIRED)
    report = run(*arguments)
    assert report.reason == "AccessDenied"
    assert "the store refuses these credentials (ExpiredToken" in report.message
    assert "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) or what they may do" in report.message
    assert s3.built() == {}
    between.refuse_after = None
    assert run(*arguments).reason == "Merged"
    assert s3.unfinished() == 0
    assert files_of(s3) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which 24 MiB fit."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_named_and_nothing_stays_on_it(small_disk: Path, sources: tuple[Path, Path], run: Run) -> None:
    base, adapter = sources
    artifacts = (small_disk / "artifacts").as_uri()
    report = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", artifacts)
    assert report.reason == "DiskFull"
    assert "no space left on the disk; free some or choose another folder" in report.message
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_disk_that_was_full_and_has_room_again_holds_the_whole_model(
    small_disk: Path, sources: tuple[Path, Path], undisturbed: dict[str, bytes], run: Run
) -> None:
    place = Disk(small_disk)
    merged(sources, place, run)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert files_of(merged(sources, place, run)) == undisturbed


def test_merges_that_are_killed_at_random_moments_end_in_the_same_bytes(
    place: Place, sharded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    base, adapter = (place.upload(folder) for folder in sharded)
    merge = "merge", "--base", base, "--adapter", adapter, "--artifacts", place.artifacts
    command = [sys.executable, "-m", "tests.merge.killed", str(KILLS), "7", place.artifacts, "--", *merge]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == KILLS
    assert place.unfinished() == 0
    assert files_of(place) == files_of(merged(sharded, Disk(tmp_path / "undisturbed"), run))


def interrupted(place: Place, sharded: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch) -> Report:
    """A merge that fails after its first weight file."""
    from ftm_jobs.merge.adapted_weights import AdaptedWeights

    write, count = AdaptedWeights.write, 0

    def fails_later(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 2:
            raise MemoryError
        return write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(AdaptedWeights, "write", fails_later)
        return run(*arguments_of(place, sharded))


def arguments_of(place: Place, sources: tuple[Path, Path]) -> list[str]:
    base, adapter = (folder.as_uri() for folder in sources)
    return ["merge", "--base", base, "--adapter", adapter, "--artifacts", place.artifacts]


def test_a_finished_file_is_kept_and_not_written_again(
    place: Place, sharded: tuple[Path, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert interrupted(place, sharded, run, monkeypatch).reason == "OutOfMemory"
    left = place.built()
    assert {name.partition("/")[2] for name in left} == {"model-00001-of-00003.safetensors", "unfinished-merge.json"}
    capsys.readouterr()
    assert run(*arguments_of(place, sharded)).reason == "Merged"
    expected = files_of(merged(sharded, Disk(tmp_path / "undisturbed"), run))
    assert files_of(place) == expected


def test_a_finished_file_that_is_not_what_was_written_is_written_again(
    place: Place, sharded: tuple[Path, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(place, sharded, run, monkeypatch)
    (name,) = (name for name in place.built() if name.endswith(".safetensors"))
    key, _, file = name.partition("/")
    place.store().child(key).put(file, bytes(len(place.built()[name])))
    assert run(*arguments_of(place, sharded)).reason == "Merged"
    assert files_of(place) == files_of(merged(sharded, Disk(tmp_path / "undisturbed"), run))
