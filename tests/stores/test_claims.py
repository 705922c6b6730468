"""pvc://claim/path where a pod would mount it: the same keys and bytes as on the disk, under the claim's own names."""

from pathlib import Path

import pytest

from tests.models.llamas import medium
from tests.step_fixtures import Run


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pvc"
    monkeypatch.setattr("ftm_jobs.stores.CLAIMS", str(folder))
    (folder / "built").mkdir(parents=True)
    return folder


def test_a_claim_is_read_and_written_under_its_own_name(run: Run, claims: Path, tmp_path: Path) -> None:
    base, adapter = medium(claims / "models" / "some", layers=1, width=256)
    sources = ["--base", "pvc://models/some/base", "--adapter", "pvc://models/some/adapter/"]
    report = run("inspect", *sources)
    assert report.facts
    assert [report.facts.base.uri, report.facts.adapters[0].uri] == [sources[1], "pvc://models/some/adapter"]
    merged = run("merge", *sources, "--artifacts", "pvc://built").artifact
    elsewhere = run(
        "merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", (tmp_path / "disk").as_uri()
    ).artifact
    assert merged
    assert elsewhere
    assert (merged.key, merged.uri) == (elsewhere.key, f"pvc://built/{merged.key}")
    assert run("fetch", "--artifact", merged.uri, "--to", str(tmp_path / "fetched")).reason == "Fetched"
    weights = (tmp_path / "disk" / merged.key / "model.safetensors").read_bytes()
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == weights


def test_a_claim_that_is_not_mounted_is_refused_and_nothing_is_made(run: Run, claims: Path, tmp_path: Path) -> None:
    base, adapter = medium(tmp_path / "made", layers=1, width=256)
    report = run("inspect", "--base", "pvc://absent/base", "--adapter", adapter.as_uri())
    assert report.reason == "SourceNotFound"
    assert report.message == (
        f"pvc://absent/base: {claims}/absent is not there: a claim is mounted in a cluster's Jobs alone; elsewhere "
        "write file:///path"
    )
    sources = ["--base", base.as_uri(), "--adapter", adapter.as_uri()]
    assert run("merge", *sources, "--artifacts", "pvc://absent/built").reason == "SourceNotFound"
    assert not (claims / "absent").exists()
