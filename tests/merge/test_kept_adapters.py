"""`adapter`: an adapter is checked against its base and kept as vLLM reads it, on the disk and on a real S3 server."""

from pathlib import Path
from shutil import copytree

import pytest

from ftm_jobs.contract.keys import adapter_key
from ftm_jobs.contract.manifest import MANIFEST_NAME
from tests.models.llamas import Kind, make_adapters, make_base
from tests.places import Disk, Place
from tests.step_fixtures import Run

FILES = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), Kind())


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_adapters(tmp_path_factory.mktemp("adapter"), base, Kind())[0]


def arguments(place: Place, base: Path, adapter: Path) -> tuple[str, ...]:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter)
    return "adapter", *sources, "--artifacts", place.artifacts


def test_the_artifact_holds_the_adapter_s_two_files_as_peft_saved_them(
    place: Place, run: Run, base: Path, adapter: Path
) -> None:
    report = run(*arguments(place, base, adapter))
    assert report.reason == "AdapterKept"
    assert report.facts
    assert report.artifact
    assert report.artifact.key == adapter_key(report.facts.adapters[0].digest, report.facts.base.digest)
    built = place.built()
    assert built.keys() == {f"{report.artifact.key}/{name}" for name in {*FILES, MANIFEST_NAME}}
    for name in FILES:
        assert built[f"{report.artifact.key}/{name}"] == (adapter / name).read_bytes()
    assert (
        report.message == f"kept the adapter in {report.artifact.uri}: 2 files, " + report.message.rpartition(", ")[2]
    )


def test_a_second_run_finds_it_and_one_after_a_killed_run_completes_it(
    place: Place, run: Run, base: Path, adapter: Path
) -> None:
    command = arguments(place, base, adapter)
    first, again = run(*command), run(*command)
    assert (again.artifact, again.reused) == (first.artifact, True)
    assert again.message.startswith("the adapter is already in ")
    assert first.artifact
    before = place.built()
    folder = place.store().child(first.artifact.key)
    folder.delete(MANIFEST_NAME)
    folder.delete("adapter_model.safetensors")
    resumed = run(*command)
    assert (resumed.artifact, resumed.reused) == (first.artifact, False)
    assert place.built() == before


@pytest.mark.parametrize(
    ("lora", "objection"),
    [
        ({"use_dora": True}, "vLLM has no DoRA"),
        ({"modules_to_save": ["lm_head"]}, "vLLM takes no modules_to_save: lm_head"),
    ],
    ids=["DoRA", "modules_to_save"],
)
def test_what_vllm_cannot_serve_unmerged_is_refused_with_what_to_do(
    tmp_path: Path, run: Run, base: Path, lora: dict[str, object], objection: str
) -> None:
    adapter = make_adapters(tmp_path, base, Kind(lora=lora))[0]
    place = Disk(tmp_path)
    report = run(*arguments(place, base, adapter))
    assert (report.reason, report.exit_code) == ("NotServedUnmerged", 2)
    assert f" cannot be served beside its base: {objection}" in report.message
    assert report.message.endswith(": merge it, by a FineTunedModel of its own whose mode is Merged")
    assert place.built() == {}


def test_an_adapter_of_another_base_is_refused_as_inspect_refuses_it(
    tmp_path: Path, run: Run, base: Path, adapter: Path
) -> None:
    other = tmp_path / "other"
    copytree(base, other)
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights.replace(b".1.self_attn.q_proj", b".9.self_attn.q_proj"))
    sources = "--base", other.as_uri(), "--adapter", adapter.as_uri()
    refused = run("adapter", *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert (refused.reason, refused.exit_code) == ("AdapterMismatch", 2)
    assert refused.message == run("inspect", *sources).message


def test_a_source_that_changed_and_a_scale_are_refused(tmp_path: Path, run: Run, base: Path, adapter: Path) -> None:
    store = Disk(tmp_path).artifacts
    changed = f"{adapter.as_uri()},digest=sha256:{'0' * 64}"
    report = run("adapter", "--base", base.as_uri(), "--adapter", changed, "--artifacts", store)
    assert report.reason == "SourceChanged"
    report = run("adapter", "--base", base.as_uri(), "--adapter", f"{adapter.as_uri()},scale=2", "--artifacts", store)
    assert (report.reason, report.exit_code) == ("InvalidURI", 2)
