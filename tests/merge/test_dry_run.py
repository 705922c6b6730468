"""`merge --dry-run`: says what the merge then does, reads configs and headers alone, and writes nothing."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ftm_jobs import __main__ as command_line
from ftm_jobs.contract.manifest import MergePreview
from ftm_jobs.contract.report import Report
from tests.models.llamas import medium
from tests.places import Disk, Place
from tests.step_fixtures import Run

MIB = 1024 * 1024
Preview = Callable[..., MergePreview]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of 40 MiB and an adapter."""
    return medium(tmp_path_factory.mktemp("medium"))


@pytest.fixture
def preview(capsys: pytest.CaptureFixture[str]) -> Preview:
    def dry_run(*arguments: str) -> MergePreview:
        assert command_line.main(["merge", *arguments, "--dry-run"]) == 0
        return MergePreview.model_validate_json(capsys.readouterr().out.splitlines()[-1])

    return dry_run


def arguments(base: str, adapter: str) -> list[str]:
    return ["--base", base, "--adapter", f"{adapter},scale=0.5", "--dtype", "float32"]


def test_what_is_said_is_what_is_then_written(
    place: Place, sources: tuple[Path, Path], preview: Preview, run: Run
) -> None:
    merge = [*arguments(*map(place.upload, sources)), "--out", place.artifacts]
    said = preview(*merge)
    assert place.built() == {}
    report = run("merge", *merge)
    assert report.artifact
    built = place.built()
    manifest = json.loads(built["manifest.json"])
    assert {file.path: file.size for file in said.files} == {file["path"]: file["size"] for file in manifest["files"]}
    assert said.total_bytes == report.artifact.total_bytes
    assert (said.destination, said.state, said.scales) == (report.artifact.uri, "nothing", (0.5,))
    assert said.weights_changed == manifest["measurements"]["weightsChanged"]
    assert said.notes == report.notes
    assert {file.path: file.made for file in said.files if file.made != "copied"} == {
        "model.safetensors": "merged",
        "config.json": "edited",
    }
    again = preview(*merge)
    assert (again.key, again.state) == (manifest["key"], "this merge, complete")
    assert place.built() == built


def bytes_read() -> int:
    return int(re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text())[0])


def test_local_weights_are_neither_read_nor_hashed_and_the_key_is_not_known_then(
    sources: tuple[Path, Path], preview: Preview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where digests of earlier runs are
    place = Disk(tmp_path)
    base, adapter = (place.upload(folder) for folder in sources)
    merge = [*arguments(base, adapter), "--artifacts", place.artifacts]
    preview(*merge)  # imports what is not imported yet
    before = bytes_read()
    said = preview(*merge)
    assert bytes_read() - before < MIB
    assert said.facts.base.weight_bytes == 40 * MIB
    assert (said.key, said.facts.base.digest, said.facts.adapters[0].digest) == (None, "", "")
    assert said.state == "not known before the weights are hashed"


def test_a_dry_run_refuses_with_the_sentence_of_the_merge(
    place: Place, sources: tuple[Path, Path], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = map(place.upload, sources)
    place.store().put("notes.txt", b"mine")
    taken = ["--base", base, "--adapter", adapter, "--out", place.artifacts]
    no_adapter = ["--base", base, "--adapter", base, "--artifacts", place.artifacts]
    for merge in (taken, no_adapter):
        report = run("merge", *merge)
        assert command_line.main(["merge", *merge, "--dry-run"]) == 2
        refused = Report.model_validate_json(capsys.readouterr().out.splitlines()[-1])
        assert (refused.reason, refused.message) == (report.reason, report.message)
    assert place.built() == {"notes.txt": b"mine"}
