"""`merge --max-shard-size`: the same model in files of another size, whatever the base's files are."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from ftm_jobs.artifacts.journal import JOURNAL_NAME
from ftm_jobs.checkpoint.index import INDEX_FILE, SINGLE_FILE
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.stores.file import FileStore
from tests.merge.test_disturbed import files_of
from tests.merge.test_kinds import same
from tests.models.families import Adapter, load, make_adapter, make_family
from tests.models.families import merged_by_peft as merged_family
from tests.models.llamas import Kind, make_adapters, make_base, merged_by_peft
from tests.places import Disk, Place
from tests.step_fixtures import Run

SIZE = 40_000
DAMAGED_BYTE = 5_001
"""The sign of a number, behind a header and in another file of SIZE than the end of the base's file."""
Sources = tuple[Path, Path]


@pytest.fixture(scope="module", params=["60KB", "50GB"], ids=["sharded", "unsharded"])
def sources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder, kind = tmp_path_factory.mktemp("sources"), Kind(shard=request.param)
    base = make_base(folder / "base", kind)
    return base, make_adapters(folder, base, kind)[0]


def arguments(sources: Sources, place: Place, size: str = f"{SIZE}B") -> list[str]:
    base, adapter = (place.upload(folder) for folder in sources)
    return ["merge", "--base", base, "--adapter", adapter, "--artifacts", place.artifacts, "--max-shard-size", size]


def folder_of(report: Report, tmp_path: Path) -> Path:
    assert report.artifact, report.message
    return tmp_path / "disk" / "artifacts" / report.artifact.key


def test_a_resharded_model_is_peft_s_in_files_of_the_size_with_an_index(
    run: Run, sources: Sources, tmp_path: Path
) -> None:
    found = folder_of(run(*arguments(sources, Disk(tmp_path / "disk"))), tmp_path)
    files = sorted(found.glob("*.safetensors"))
    assert len(files) > 3
    assert [file.name for file in files] == [
        f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)
    ]
    assert max(file.stat().st_size for file in files) <= SIZE
    expected = merged_by_peft(sources[0], [sources[1]], [1.0], torch.bfloat16)
    state = LlamaForCausalLM.from_pretrained(found, dtype=torch.bfloat16).state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    index = json.loads((found / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    manifest = json.loads((found / "manifest.json").read_text())
    assert manifest["maxShardSize"] == SIZE
    assert {file["path"] for file in manifest["files"]} == {path.name for path in found.iterdir()} - {"manifest.json"}


def test_one_file_is_enough_where_the_size_is_large(run: Run, sources: Sources, tmp_path: Path) -> None:
    found = folder_of(run(*arguments(sources, Disk(tmp_path / "disk"), "5GB")), tmp_path)
    assert [path.name for path in found.glob("model*")] == [SINGLE_FILE]
    expected = merged_by_peft(sources[0], [sources[1]], [1.0], torch.bfloat16)
    state = LlamaForCausalLM.from_pretrained(found, dtype=torch.bfloat16).state_dict()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


def test_an_output_layer_that_a_base_has_not_and_a_new_vocabulary_are_resharded_too(run: Run, tmp_path: Path) -> None:
    base = make_family(tmp_path / "base", "llama tied", torch.bfloat16)
    adapter = Adapter({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]})
    source = make_adapter(tmp_path / "adapter", "llama tied", base, torch.bfloat16, adapter)
    found = folder_of(run(*arguments((base, source), Disk(tmp_path / "disk"), "10KB")), tmp_path)
    assert len(list(found.glob("*.safetensors"))) > 1
    expected = merged_family("llama tied", base, torch.bfloat16, [source], [1.0], None)
    assert same(load("llama tied", found), expected) == []


def test_a_resharded_artifact_is_the_same_wherever_it_is_and_another_than_without_a_size(
    run: Run, sources: Sources, place: Place, tmp_path: Path
) -> None:
    other = Disk(tmp_path / "other")
    report, again = run(*arguments(sources, place)), run(*arguments(sources, other))
    assert report.artifact
    assert again.artifact
    assert report.artifact.key == again.artifact.key
    assert files_of(place) == files_of(other)
    plain = run(*arguments(sources, other)[:-2])
    assert plain.artifact
    assert plain.artifact.key != report.artifact.key


def test_killed_merges_end_in_the_same_bytes(run: Run, sources: Sources, place: Place, tmp_path: Path) -> None:
    merge = arguments(sources, place)
    command = [sys.executable, "-m", "tests.merge.killed", "5", "3", place.artifacts, "--", *merge]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert place.unfinished() == 0
    undisturbed = Disk(tmp_path / "undisturbed")
    run(*arguments(sources, undisturbed))
    assert files_of(place) == files_of(undisturbed)


@pytest.fixture
def several(tmp_path: Path) -> Sources:
    base = make_base(tmp_path / "base", Kind(shard="60KB"))
    return base, make_adapters(tmp_path, base, Kind())[0]


def test_a_file_is_kept_once_all_that_it_was_made_from_is_proven(
    run: Run, several: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftm_jobs.merge.adapted_weights import AdaptedWeights

    write, written = AdaptedWeights.write, list[str]()

    def fails_at_the_fourth(self: AdaptedWeights, file: object, *rest: object) -> object:
        written.append(file.name)  # type: ignore[attr-defined]
        if len(written) == 4:
            raise MemoryError
        return write(self, file, *rest)  # type: ignore[arg-type]

    place = Disk(tmp_path / "disk")
    monkeypatch.setattr(AdaptedWeights, "write", fails_at_the_fourth)
    assert run(*arguments(several, place)).reason == "OutOfMemory"
    (journal,) = (text for name, text in place.built().items() if name.endswith(JOURNAL_NAME))
    kept = json.loads(journal)["files"]
    assert kept
    assert run(*arguments(several, place)).reason == "Merged"
    assert not kept.keys() & set(written[4:])
    undisturbed = Disk(tmp_path / "undisturbed")
    run(*arguments(several, undisturbed))
    assert files_of(place) == files_of(undisturbed)


@pytest.mark.parametrize("sealed", [True, False])
def test_each_byte_of_the_base_is_read_once_for_its_weights_and_its_proof(
    run: Run, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    """A file that was hashed before needs no proof, so that of the files only the tensors are read."""
    read, stat, seen, begun = FileStore.read_into, FileStore.stat, Counter[str](), False

    def counted(self: FileStore, path: str, offset: int, buffer: memoryview) -> None:
        if begun and "/models/" in self.uri and path.startswith("model"):
            seen[path] += len(buffer)
        read(self, path, offset, buffer)

    from ftm_jobs.stores import transfer

    prove = transfer.prove

    def begins(*given: object) -> None:
        nonlocal begun
        begun = True
        prove(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "prove", begins)
    monkeypatch.setattr(FileStore, "read_into", counted)
    monkeypatch.setattr(FileStore, "stat", lambda self, path: replace(stat(self, path), sealed=sealed))
    run(*arguments(sources, Disk(tmp_path / "disk")))
    files = list(sources[0].glob("*.safetensors"))
    assert seen == {path.name: path.stat().st_size - (header_bytes(path) if sealed else 0) for path in files}


def header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def test_a_base_that_is_not_what_its_store_declares_ends_the_merge_and_nothing_made_of_it_is_kept(
    run: Run, several: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a store that declares a sha256 it did not compute from what is read now."""
    read, stat = FileStore.read_into, FileStore.stat
    damaged = sorted(path.name for path in several[0].glob("*.safetensors"))[1]

    def damages(self: FileStore, path: str, offset: int, buffer: memoryview) -> None:
        read(self, path, offset, buffer)
        if path == damaged and "/models/" in self.uri and offset <= DAMAGED_BYTE < offset + len(buffer):
            buffer[DAMAGED_BYTE - offset] ^= 0x80

    place = Disk(tmp_path / "disk")
    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "read_into", damages)
        patched.setattr(FileStore, "stat", lambda self, path: replace(stat(self, path), sealed=False))
        report = run(*arguments(several, place))
    assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, "CorruptSource")
    digest = hashlib.sha256((several[0] / damaged).read_bytes()).hexdigest()
    assert f"{damaged} has sha256" in report.message
    assert f"but the store declares {digest}: upload it again" in report.message
    assert not any(name.endswith("manifest.json") for name in place.built())
    assert run(*arguments(several, place)).reason == "Merged"
    undisturbed = Disk(tmp_path / "undisturbed")
    run(*arguments(several, undisturbed))
    assert files_of(place) == files_of(undisturbed)


def test_what_is_no_size_is_refused_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    nowhere = (tmp_path / "nowhere").as_uri()
    report = run("merge", "--base", nowhere, "--adapter", nowhere, "--out", nowhere, "--max-shard-size", "big")
    assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, "InvalidSize")
    assert report.message.startswith('max-shard-size "big" is not a size')
