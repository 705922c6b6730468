"""`artifacts list|show|verify|gc` against the disk and a real S3 server."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ftm_jobs import __main__ as command_line
from ftm_jobs.artifacts import catalogue as artifacts
from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import MANIFEST_NAME, Catalogue, Manifest, ManifestFile, ManifestInput
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import InvalidInput
from ftm_jobs.stores.source import parse_source
from tests.places import Place

KEPT, UNUSED, CUT = (f"merge-{digit * 32}" for digit in "123")
ADAPTER = f"adapter-{'4' * 32}"
WEIGHTS = b"weights" * 1000


def build(place: Place, key: str, *, complete: bool = True) -> None:
    folder = place.store().child(key)
    folder.put("model.safetensors", WEIGHTS)
    file = ManifestFile(path="model.safetensors", size=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest())
    base = ManifestInput(role="base", uri="hf://org/base@1", digest="sha256:0")
    if complete:
        manifest = Manifest(key=key, step=Step.MERGE, recipe=1, inputs=(base,), files=(file,))
        folder.put(MANIFEST_NAME, encode(manifest))


@pytest.fixture
def store(place: Place) -> Place:
    for key in (KEPT, UNUSED):
        build(place, key)
    build(place, CUT, complete=False)
    place.store().child("notes").put("mine.txt", b"mine")
    return place


def gc(store: Place, *, days: float = 0, delete: bool = False) -> dict[str, tuple[str, ...]]:
    """Returns why each artifact goes, when looked at `days` from now."""
    now = datetime.now(UTC) + timedelta(days=days)
    found = artifacts.gc(parse_source(store.artifacts), {KEPT}, now, delete=delete)
    return {each.key: each.notes for each in found.artifacts}


def test_list_tells_complete_from_incomplete_and_passes_over_what_is_no_artifact(store: Place) -> None:
    found = artifacts.list_artifacts(parse_source(store.artifacts))
    assert [(each.key, each.complete) for each in found.artifacts] == [(KEPT, True), (UNUSED, True), (CUT, False)]
    assert [each.uri for each in found.artifacts[0].inputs] == ["hf://org/base@1"]
    assert found.artifacts[2].notes == ("it has no manifest",)
    assert all(each.written and datetime.now(UTC) - each.written < timedelta(hours=1) for each in found.artifacts)


def test_a_folder_with_only_an_unfinished_upload_is_listed(place: Place) -> None:
    with place.store().child(CUT).writer("model.safetensors", 40 * 2**20) as writer:
        writer.write(bytes(40 * 2**20))
        found = artifacts.list_artifacts(parse_source(place.artifacts)).artifacts
    assert [(each.key, each.complete, each.written is None) for each in found] == [(CUT, False, False)]


def test_show_gives_the_manifest(store: Place) -> None:
    found = artifacts.show(parse_source(store.artifacts), KEPT).manifest
    assert found
    assert found.files[0].path == "model.safetensors"
    with pytest.raises(InvalidInput, match="has no manifest"):
        artifacts.show(parse_source(store.artifacts), CUT)


def test_verify_reads_every_byte(store: Place) -> None:
    found = artifacts.verify(parse_source(store.artifacts))
    assert (found.reason, [each.key for each in found.artifacts]) == ("Verified", [KEPT, UNUSED])
    changed = bytearray(WEIGHTS)
    changed[4321] ^= 1
    store.store().child(UNUSED).put("model.safetensors", bytes(changed))
    found = artifacts.verify(parse_source(store.artifacts))
    assert (found.outcome, found.reason) == ("InvalidInput", "CorruptArtifact")
    assert (
        f"1 of 2 artifacts are not as they were written, first {UNUSED}: model.safetensors has sha256" in found.message
    )
    assert artifacts.verify(parse_source(store.artifacts), [KEPT]).reason == "Verified"


def test_gc_says_first_and_acts_only_when_told_to(store: Place) -> None:
    before = store.built()
    assert gc(store) == {UNUSED: ("nothing refers to it",)}
    assert store.built() == before
    gc(store, delete=True)
    assert set(before) - set(store.built()) == {f"{UNUSED}/model.safetensors", f"{UNUSED}/{MANIFEST_NAME}"}
    assert gc(store) == {}


def test_gc_takes_what_a_killed_merge_left_after_a_day(store: Place) -> None:
    assert CUT not in gc(store, days=0.9)
    assert gc(store, days=2.5, delete=True)[CUT] == ("it has no manifest", "nothing was written to it for 2 days")
    assert {path.partition("/")[0] for path in store.built()} == {KEPT, "notes"}


def test_gc_leaves_a_kept_adapter_a_day_since_no_resource_names_it_before_its_job_has_ended(store: Place) -> None:
    build(store, ADAPTER)
    assert ADAPTER not in gc(store, days=0.9)
    assert gc(store, days=1.1)[ADAPTER] == ("nothing refers to it",)


def test_gc_removes_a_manifest_before_its_files(store: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(type(store.store()), "delete", lambda _, name: removed.append(name))
    gc(store, delete=True)
    assert removed == [MANIFEST_NAME, "model.safetensors"]


def test_the_command_line_prints_a_catalogue(store: Place, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, Any]:
        code = command_line.main(["artifacts", *arguments])
        return code, Catalogue.model_validate(json.loads(capsys.readouterr().out.splitlines()[-1]))

    code, found = run("gc", store.artifacts, "--keep", KEPT)
    assert (code, found.reason, [each.key for each in found.artifacts]) == (0, "Collected", [UNUSED])
    code, found = run("show", store.artifacts, "../secret")
    assert (code, found.message) == (2, '"../secret" is no artifact\'s key: write one that list shows')
    with pytest.raises(SystemExit):
        run("gc", store.artifacts)
