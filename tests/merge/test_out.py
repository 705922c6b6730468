"""`merge --out`: a plain model directory exactly there, and nothing else's place taken."""

from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.errors import Failed, Reason
from ftm_jobs.merge import destination
from tests.models.llamas import medium
from tests.places import Place
from tests.step_fixtures import Run


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    base, adapter = medium(tmp_path / "made", layers=1, width=256)
    return ["--base", base.as_uri(), "--adapter", adapter.as_uri()]


def inside(place: Place) -> set[str]:
    return set(place.built())


def test_the_model_is_exactly_there_and_its_bytes_are_those_of_an_artifact(
    run: Run, place: Place, sources: list[str], tmp_path: Path
) -> None:
    report = run("merge", *sources, "--out", place.artifacts)
    keyed = run("merge", *sources, "--artifacts", (tmp_path / "keyed").as_uri())
    assert keyed.artifact
    assert place.built() == {
        path.name: path.read_bytes() for path in (tmp_path / "keyed" / keyed.artifact.key).iterdir()
    }
    assert report.artifact
    assert report.artifact.uri == place.artifacts.partition(",")[0]


def test_a_second_run_does_nothing(run: Run, place: Place, sources: list[str]) -> None:
    run("merge", *sources, "--out", place.artifacts)
    report = run("merge", *sources, "--out", place.artifacts)
    assert (report.reason, report.reused) == ("AlreadyMerged", True)
    assert destination.MARKER not in inside(place)


def refused(report: Report) -> bool:
    return (report.outcome, report.reason) == (Outcome.INVALID_INPUT, "DestinationTaken")


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(
    run: Run, place: Place, sources: list[str]
) -> None:
    place.store().put("notes.txt", b"mine")
    report = run("merge", *sources, "--out", place.artifacts)
    assert refused(report)
    assert 'is not empty, it holds "notes.txt": name a folder that is empty, or empty this one' in report.message
    assert place.built() == {"notes.txt": b"mine"}


def test_a_base_is_never_merged_into_itself(run: Run, sources: list[str]) -> None:
    assert refused(run("merge", *sources, "--out", sources[1]))


def test_another_merge_is_refused_whether_complete_or_begun(run: Run, place: Place, sources: list[str]) -> None:
    destination.claim(place.store(), "merge-another")
    assert refused(run("merge", *sources, "--out", place.artifacts))
    place.store().delete(destination.MARKER)
    run("merge", *sources, "--out", place.artifacts)
    before = place.built()
    assert refused(run("merge", *sources[:3], f"{sources[3]},scale=2", "--out", place.artifacts))
    assert place.built() == before


def test_a_merge_that_was_cut_is_finished_by_the_next_run(
    run: Run, place: Place, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise Failed(Reason.STORE_UNAVAILABLE, "gone")

    with monkeypatch.context() as patched:
        patched.setattr("ftm_jobs.artifacts.publish.publish", cut)
        assert run("merge", *sources, "--out", place.artifacts).reason == "StoreUnavailable"
    assert inside(place) >= {destination.MARKER, "model.safetensors"}
    assert run("merge", *sources, "--out", place.artifacts).reason == "Merged"
    assert inside(place) >= {MANIFEST_NAME, "model.safetensors"}
    assert destination.MARKER not in inside(place)


def test_a_merge_that_wrote_nothing_leaves_nothing(
    run: Run, place: Place, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise Failed(Reason.STORE_UNAVAILABLE, "gone")

    monkeypatch.setattr("ftm_jobs.merge.artifact._write", fails)
    run("merge", *sources, "--out", place.artifacts)
    assert place.built() == {}
