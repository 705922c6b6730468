"""A large local file is hashed once, and again as soon as it may have changed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from ftm_jobs.stores import digests
from ftm_jobs.stores.digests import SETTLED_SECONDS, SMALLEST_REMEMBERED_BYTES, cache_file, sha256_of_file


class Hashing:
    """Counts the files that were hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = 0
        self._hash = hashlib.file_digest
        monkeypatch.setattr(hashlib, "file_digest", self._counted)

    def _counted(self, *arguments: object) -> object:
        self.files += 1
        return self._hash(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hashing:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    now = time.time() + 10 * SETTLED_SECONDS
    monkeypatch.setattr(time, "time", lambda: now)
    return Hashing(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights" + bytes(SMALLEST_REMEMBERED_BYTES))
    return path


def another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_memory", {})


def test_a_later_run_does_not_hash_the_file_again(
    model: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sha256_of_file(model)[1]
    another_run(monkeypatch)
    assert sha256_of_file(model)[1] == first == hashlib.sha256(model.read_bytes()).hexdigest()
    assert hashing.files == 1


def test_a_file_that_was_changed_is_hashed_again_though_its_size_and_time_are_as_before(
    model: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, before = sha256_of_file(model)[1], model.stat()
    with model.open("r+b") as file:
        file.write(b"WEIGHTS")
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        assert sha256_of_file(model)[1] == hashlib.sha256(model.read_bytes()).hexdigest() != first
        another_run(monkeypatch)
    assert hashing.files == 2


def test_a_file_that_was_changed_a_moment_ago_is_not_remembered(
    model: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = model.stat().st_mtime
    monkeypatch.setattr(time, "time", lambda: changed + SETTLED_SECONDS / 2)
    sha256_of_file(model)
    another_run(monkeypatch)
    sha256_of_file(model)
    assert hashing.files == 2


@pytest.mark.parametrize("content", [b"", b"not JSON", b"[]", b'{"a": '])
def test_a_damaged_memory_is_begun_anew(
    model: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(content)
    for _ in range(2):
        assert sha256_of_file(model)[1] == hashlib.sha256(model.read_bytes()).hexdigest()
        another_run(monkeypatch)
    assert hashing.files == 1


def test_without_a_folder_to_write_to_nothing_is_remembered_and_nothing_fails(
    model: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    sha256_of_file(model)
    another_run(monkeypatch)
    assert sha256_of_file(model)[1] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert hashing.files == 2


def test_small_files_are_not_remembered(tmp_path: Path, hashing: Hashing) -> None:
    small = tmp_path / "config.json"
    small.write_text("{}")
    sha256_of_file(small)
    assert not cache_file().exists()
    assert hashing.files == 1
