"""What an engine does not stream is fetched and proven; of its weights, what the store says of them is checked."""

import hashlib
from pathlib import Path

import pytest

from ftm_jobs.artifacts.beside_weights import fetch_beside_weights
from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import Manifest, ManifestFile
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import InvalidInput
from ftm_jobs.stores.source import parse_source
from tests.step_fixtures import Run

FILES = {
    "config.json": b"{}",
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "model-00001-of-00001.safetensors": b"w" * 5000,
    "extra/template.jinja": b"{{ messages }}",
}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "built/merge-0123456789abcdef0123456789abcdef"
    files = []
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        files.append(ManifestFile(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    manifest = Manifest(key=folder.name, step=Step.MERGE, recipe=1, inputs=(), files=tuple(files))
    (folder / "manifest.json").write_bytes(encode(manifest))
    return folder


def test_everything_but_the_weights_is_fetched_with_the_manifest(artifact: Path, tmp_path: Path) -> None:
    report = fetch_beside_weights(parse_source(artifact.as_uri()), tmp_path / "model")
    found = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")}
    assert found == {*FILES, "manifest.json"} - {"model-00001-of-00001.safetensors"}
    assert "holds 3 files" in report.message
    assert report.message.endswith("; 1 file of weights left to the engine, of the right size")


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("model-00001-of-00001.safetensors", b"w" * 4999, "has 4999 bytes, not 5000"),
        ("model-00001-of-00001.safetensors", None, "is missing, though the manifest names it"),
        ("model-00001-of-00001.safetensors", b"v" * 5000, "by the store's word, not"),
        ("config.json", b"[]", "config.json has sha256"),
    ],
    ids=["shorter weights", "no weights", "other weights where the store knows their sha256", "another config"],
)
def test_what_is_not_as_the_manifest_says_is_refused(
    artifact: Path, tmp_path: Path, path: str, content: bytes | None, message: str
) -> None:
    (artifact / path).unlink()
    if content is not None:
        (artifact / path).write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        fetch_beside_weights(parse_source(artifact.as_uri()), tmp_path / "model")
    assert not (tmp_path / "model/manifest.json").exists()


def test_the_command_leaves_weights_out_where_it_is_told_to(run: Run, artifact: Path, tmp_path: Path) -> None:
    to = "--to", str(tmp_path / "model")
    assert run("fetch", "--artifact", artifact.as_uri(), *to, "--without-weights").reason == "Fetched"
    assert not list((tmp_path / "model").glob("*.safetensors"))


def test_the_guard_is_written_alone_for_a_model_that_is_mounted(run: Run, tmp_path: Path) -> None:
    report = run("fetch", "--guard", str(tmp_path / "guard"))
    assert report.message == f"{tmp_path / 'guard'} holds the engine's guard; its model is mounted"
    assert (tmp_path / "guard/ftm_guard.py").is_file()


def test_nothing_to_fetch_is_refused_with_what_to_write(run: Run) -> None:
    report = run("fetch")
    assert (report.outcome, report.message) == (
        "InvalidInput",
        "there is nothing to fetch: write --artifact or --base, and --to",
    )
