"""Folders of a base go where its files go, through every store; what is left out is said."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ftm_jobs.artifacts import catalogue
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.stores.source import parse_source
from tests.models.llamas import medium
from tests.places import Place
from tests.step_fixtures import Run

FOLDERS = {
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "2_Dense/model.safetensors": bytes(6 * 1024 * 1024),
    "additional_chat_templates/tool_use.jinja": b"{{ tools }}",
    "custom_generate/inner/generate.py": b"raise SystemExit",
    "tokenizer.model.v3": b"v3",
    "modules.json": json.dumps([{"path": "1_Pooling"}, {"path": "2_Dense"}]).encode(),
}
LEFT = {"onnx/model.onnx": b"x", "original/consolidated.00.pth": b"x", "pytorch_model.bin": b"x", "README.md": b"x"}


@pytest.fixture
def sources(tmp_path: Path, place: Place) -> list[str]:
    base, adapter = medium(tmp_path / "made", layers=1, width=256)
    for name, content in (FOLDERS | LEFT).items():
        (base / name).parent.mkdir(exist_ok=True, parents=True)
        (base / name).write_bytes(content)
    return ["--base", place.upload(base), "--adapter", place.upload(adapter)]


def test_folders_are_merged_proven_fetched_and_removed(
    run: Run, place: Place, sources: list[str], tmp_path: Path
) -> None:
    report = run("merge", *sources, "--artifacts", place.artifacts)
    assert report.artifact
    (note,) = report.notes
    assert (
        note.endswith("/base: onnx/, original/, pytorch_model.bin") or ": onnx/, original/, pytorch_model.bin" in note
    )
    built = {path.partition("/")[2]: content for path, content in place.built().items()}
    assert {path: content for path, content in built.items() if path in FOLDERS | LEFT} == FOLDERS
    assert json.loads(built[MANIFEST_NAME])["notes"] == [note]
    assert report.artifact.files == len(built) - 1
    assert run("merge", *sources, "--artifacts", place.artifacts).reason == "AlreadyMerged"

    to = tmp_path / "fetched"
    assert run("fetch", "--artifact", place.artifact(report), "--to", str(to)).reason == "Fetched"
    assert {path: (to / path).read_bytes() for path in FOLDERS} == FOLDERS
    assert not list(to.rglob(".*"))
    (to / "1_Pooling/config.json").write_bytes(b"{}")
    again = run("fetch", "--artifact", place.artifact(report), "--to", str(to))
    assert "1 of them fetched" in again.message
    assert (to / "1_Pooling/config.json").read_bytes() == FOLDERS["1_Pooling/config.json"]

    store = parse_source(place.artifacts)
    assert catalogue.verify(store).reason == "Verified"
    place.store().put(f"{report.artifact.key}/1_Pooling/config.json", bytes(len(FOLDERS["1_Pooling/config.json"])))
    assert "1_Pooling/config.json has sha256" in catalogue.verify(store).message
    place.store().delete(f"{report.artifact.key}/2_Dense/model.safetensors")
    (found,) = catalogue.list_artifacts(store).artifacts
    assert found.notes == ("2_Dense/model.safetensors is missing",)
    catalogue.gc(store, {f"merge-{'0' * 32}"}, datetime(2100, 1, 1, tzinfo=UTC), delete=True)
    assert place.built() == {}


def test_a_digest_of_an_earlier_version_stands_for_the_files_that_it_was_over(
    run: Run, place: Place, tmp_path: Path
) -> None:
    """Its key then names the bytes that it named before, and the operator's and the Job's keys agree."""
    base, adapter = medium(tmp_path / "made", layers=1, width=256)
    before = run(
        "merge", "--base", place.upload(base), "--adapter", place.upload(adapter), "--artifacts", place.artifacts
    )
    digest = run("inspect", "--base", base.as_uri()).facts
    assert before.artifact
    assert digest
    old = place.built()
    for name in ("tokenizer.model.v3", "custom_generate/generate.py"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(b"x")
    pinned = f"{place.upload(base)},digest={digest.base.digest}"
    after = run(
        "merge", "--base", pinned, "--adapter", place.upload(adapter), "--out", f"{(tmp_path / 'out').as_uri()}"
    )
    assert after.artifact
    assert after.artifact.key == before.artifact.key
    assert "left out, as in the version that inspected" in after.notes[0]
    assert "custom_generate/generate.py, tokenizer.model.v3; leave the digest out to take them" in after.notes[0]
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {path.partition("/")[2] for path in old}
    (base / "config.json").write_bytes((base / "config.json").read_bytes() + b"\n")
    changed = f"{base.as_uri()},digest={digest.base.digest}"
    assert run("inspect", "--base", changed).reason == "SourceChanged"
