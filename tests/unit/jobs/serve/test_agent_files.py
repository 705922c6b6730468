"""What the agent reads and keeps on its disk: the wanted file, and adapters' folders."""

import hashlib
from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import Manifest, ManifestFile
from ftm_jobs.contract.run_time_adapters import WantedAdapter, WantedAdapters, to_text, wanted_hash
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import InvalidInput
from ftm_jobs.serve.folders import AdapterFolders
from ftm_jobs.serve.wanted_file import WantedFile
from tests.unit.jobs.serve.fakes import wanted

WANTED = WantedAdapters(model="base", adapters=(wanted("support", 1),))


def replace(path: Path, text: str) -> None:
    aside = path.with_name("aside")
    aside.write_text(text)
    aside.replace(path)


def test_a_file_that_is_not_there_wants_nothing(tmp_path: Path) -> None:
    file = WantedFile(tmp_path / "adapters.json")
    assert file.refresh()
    assert (file.wanted.adapters, file.hash, file.refresh()) == ((), wanted_hash(""), False)


def test_a_file_is_read_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "adapters.json"
    file = WantedFile(path)
    file.refresh()
    replace(path, to_text(WANTED))
    assert file.refresh()
    assert (file.wanted, file.hash) == (WANTED, wanted_hash(to_text(WANTED)))
    assert not file.refresh()
    path.unlink()
    assert file.refresh()
    assert file.wanted.adapters == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"model": 1}', "\N{ROCKET}"])
def test_a_malformed_file_leaves_what_was_wanted_and_is_told(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "adapters.json"
    path.write_text(to_text(WANTED))
    file = WantedFile(path)
    file.refresh()
    replace(path, text)
    assert not file.refresh()
    assert (file.wanted, file.hash) == (WANTED, wanted_hash(to_text(WANTED)))
    assert "is not as the operator writes it" in caplog.text


def test_adapters_to_another_base_are_left_to_its_own_pods(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "adapters.json"
    of_this_base = WANTED.model_copy(update={"base": "sha256:1"})
    path.write_text(to_text(of_this_base))
    file = WantedFile(path, "sha256:1")
    assert file.refresh()
    replace(path, to_text(WantedAdapters(model="base", base="sha256:2", adapters=(wanted("support", 2),))))
    assert not file.refresh()
    assert (file.wanted, file.hash) == (of_this_base, wanted_hash(to_text(of_this_base)))
    assert "is about the base sha256:2, not sha256:1" in caplog.text


def artifact(folder: Path, content: bytes = b"weights") -> WantedAdapter:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(content)
    file = ManifestFile(path="adapter_model.safetensors", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest = Manifest(key=f"adapter-{'0' * 32}", step=Step.ADAPTER, recipe=1, inputs=(), files=(file,))
    text = manifest.model_dump_json(by_alias=True, exclude_none=True).encode()
    (folder / "manifest.json").write_bytes(text)
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return WantedAdapter(name="support", artifact=folder.as_uri(), digest=digest, total_bytes=len(content))


def test_a_fetched_folder_is_known_by_its_digest_and_can_be_removed(tmp_path: Path) -> None:
    adapter = artifact(tmp_path / "artifact")
    folders = AdapterFolders(tmp_path / "kept")
    folders.fetch(adapter)
    assert folders.complete() == {adapter.digest: 7}
    assert folders.digest(str(folders.path(adapter.digest))) == adapter.digest
    assert folders.digest("/elsewhere/adapter") is None
    folders.remove(adapter.digest)
    assert folders.complete() == {}


def test_a_corrupt_artifact_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    adapter = artifact(tmp_path / "artifact")
    (tmp_path / "artifact" / "adapter_model.safetensors").write_bytes(b"WEIGHTS")
    folders = AdapterFolders(tmp_path / "kept")
    with pytest.raises(InvalidInput, match="has sha256"):
        folders.fetch(adapter)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("lost", ["manifest.json", "adapter_model.safetensors"])
def test_what_a_killed_agent_left_is_removed(tmp_path: Path, lost: str) -> None:
    adapter = artifact(tmp_path / "artifact")
    folders = AdapterFolders(tmp_path / "kept")
    folders.fetch(adapter)
    (folders.path(adapter.digest) / lost).unlink()
    assert not folders.is_complete(adapter.digest)
    assert folders.complete() == {}
    assert list((tmp_path / "kept").iterdir()) == []
