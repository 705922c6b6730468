"""A step's scratch folder: found again after a kill, never shared, never left."""

from pathlib import Path

import pytest

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.runtime.scratch import VARIABLE, emptied, scratch


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_it_is_gone_when_the_step_ends_however_it_ends(root: Path) -> None:
    with scratch("gguf-1", 0) as folder:
        (folder / "file").write_text("content")
    with pytest.raises(ZeroDivisionError), scratch("gguf-1", 0) as folder:
        raise ZeroDivisionError
    assert list(root.iterdir()) == []


def test_what_a_killed_run_left_is_found_again(root: Path) -> None:
    left = root / "ftm-gguf-1"
    left.mkdir(parents=True)
    (left / "file").write_text("fetched")
    with scratch("gguf-1", 0) as folder:
        assert (folder / "file").read_text() == "fetched"
    assert list(root.iterdir()) == []


def test_a_second_run_at_the_same_time_has_a_folder_of_its_own(root: Path) -> None:
    with scratch("gguf-1", 0) as first, scratch("gguf-1", 0) as second:
        assert first != second
        assert second.is_dir()
    assert list(root.iterdir()) == []


def test_a_folder_that_a_link_stands_for_is_not_used(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / "ftm-gguf-1").symlink_to(tmp_path / "elsewhere")
    with scratch("gguf-1", 0) as folder:
        assert folder.parent == root
        assert not folder.is_symlink()
    assert (tmp_path / "elsewhere").is_dir()


def test_too_little_room_is_told_before_anything_is_fetched(root: Path) -> None:
    with pytest.raises(Failed) as refused, scratch("gguf-1", 2**60):
        pass
    assert refused.value.reason is Reason.DISK_FULL
    assert refused.value.message.startswith(f"{root} has ")
    assert refused.value.message.endswith(
        " free, and this step needs some 1152922 TB there: give it a larger volume, or name another folder in "
        f"{VARIABLE}"
    )
    assert list(root.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(InvalidInput) as refused, scratch("gguf-1", 0):
        pass
    assert refused.value.reason is Reason.INVALID_URI
    assert VARIABLE in refused.value.message


def test_what_a_killed_run_left_goes_files_and_folders(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        emptied(out)
        assert list(out.iterdir()) == []
        (out / "model.gguf").touch()
        (out / "tmp1").mkdir()
        (out / "tmp1" / "log").touch()
