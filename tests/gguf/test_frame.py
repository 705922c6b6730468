"""Every quantization has the same frame: reuse, proof, publication, and what becomes of a run that does not end well.

On the disk and on a real S3 server, with a method that only writes bytes.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.errors import Failed, Interrupted, InvalidInput, Reason
from ftm_jobs.quantize.artifact import Method, Quantized, quantize
from ftm_jobs.runtime.scratch import VARIABLE
from ftm_jobs.stores.source import parse_source
from ftm_jobs.stores.transfer import copy
from tests.models.llamas import medium
from tests.places import S3, Disk, Place
from tests.step_fixtures import Run

MADE = {"config.json": b"{}", "model.bin": bytes(range(256)) * 64}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return medium(tmp_path_factory.mktemp("medium"), layers=2, width=1024)


@pytest.fixture
def merged(run: Run, place: Place, base: tuple[Path, Path]) -> Report:
    sources = "--base", place.upload(base[0]), "--adapter", place.upload(base[1])
    return run("merge", *sources, "--artifacts", place.artifacts)


def writes(_model: Path, out: Path) -> Quantized:
    for name, content in MADE.items():
        (out / name).write_bytes(content)
    return Quantized({"method": "test", "bits": 4}, ("a note",), {"tensors": 2})


def method(convert: Callable[[Path, Path], Quantized] = writes, **more: object) -> Method:
    return Method(recipe=1, key=lambda key: f"gguf-{key[-32:]}", convert=convert, **more)  # type: ignore[arg-type]


def make(place: Place, merged: Report, chosen: Method) -> Report:
    return quantize(parse_source(place.artifact(merged)), parse_source(place.artifacts), chosen)


def quantized(place: Place) -> dict[str, bytes]:
    return {path: content for path, content in place.built().items() if path.startswith("gguf-")}


def test_an_artifact_holds_what_was_made_and_says_from_what(place: Place, merged: Report, scratch: Path) -> None:
    calibration = ManifestInput(role="calibration", uri="s3://texts", digest="sha256:1")
    report = make(place, merged, method(inputs=(calibration,), tools={"tool": "1.2"}))
    assert report.artifact
    assert merged.artifact
    assert (report.step, report.reason, report.reused, report.notes) == ("quantize", "Quantized", False, ("a note",))
    files = {path.partition("/")[2]: content for path, content in quantized(place).items()}
    manifest = Manifest.model_validate_json(files.pop(MANIFEST_NAME))
    assert files == MADE
    assert manifest.key == report.artifact.key
    assert manifest.inputs[0] == ManifestInput(role="merged", uri=merged.artifact.uri, digest=merged.artifact.digest)
    assert manifest.inputs[1:] == (calibration,)
    assert (manifest.quantization, manifest.tools) == ({"method": "test", "bits": 4}, {"tool": "1.2"})
    assert (manifest.notes, manifest.measurements) == (("a note",), {"tensors": 2})
    assert list(scratch.iterdir()) == []


def test_the_model_is_brought_whole(place: Place, merged: Report) -> None:
    seen: dict[str, bytes] = {}

    def looks(model: Path, out: Path) -> Quantized:
        seen.update({path.name: path.read_bytes() for path in model.iterdir()})
        return writes(model, out)

    make(place, merged, method(looks))
    assert merged.artifact
    files = {path.partition("/")[2]: content for path, content in place.built().items() if path.startswith("merge-")}
    del files[MANIFEST_NAME]
    assert seen == files


def test_a_second_run_makes_nothing(place: Place, merged: Report) -> None:
    first = make(place, merged, method())

    def never(_model: Path, _out: Path) -> Quantized:
        raise AssertionError

    again = make(place, merged, method(never))
    assert (again.reused, again.reason, again.artifact) == (True, "AlreadyQuantized", first.artifact)
    assert again.notes == first.notes


def test_a_plain_folder_can_be_quantized_by_a_person(place: Place, base: tuple[Path, Path]) -> None:
    source = place.upload(base[0])
    report = quantize(parse_source(source), parse_source(place.artifacts), method())
    assert report.artifact
    (text,) = [content for path, content in quantized(place).items() if path.endswith(MANIFEST_NAME)]
    (read,) = Manifest.model_validate_json(text).inputs
    assert (read.role, read.uri) == ("merged", source.partition(",")[0])


@pytest.mark.parametrize(
    "error",
    [InvalidInput(Reason.UNSUPPORTED_MODEL, "no"), Interrupted(), ZeroDivisionError(), Failed(Reason.DISK_FULL, "")],
)
def test_whatever_ends_it_nothing_looks_complete(
    place: Place, merged: Report, scratch: Path, error: BaseException
) -> None:
    def fails(model: Path, out: Path) -> Quantized:
        writes(model, out)
        raise error

    with pytest.raises(type(error)):
        make(place, merged, method(fails))
    assert quantized(place) == {}
    assert list(scratch.iterdir()) == []
    assert place.unfinished() == 0


def test_an_upload_that_fails_leaves_no_manifest(place: Place, merged: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0

    def copies_one(*arguments: object) -> object:
        nonlocal copied
        copied += 1
        if copied == 2:
            raise Failed(Reason.STORE_UNAVAILABLE, "gone")
        return copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("ftm_jobs.quantize.artifact.copy", copies_one)
    with pytest.raises(Failed):
        make(place, merged, method())
    assert [path for path in quantized(place) if path.endswith(MANIFEST_NAME)] == []
    monkeypatch.undo()
    assert make(place, merged, method()).reused is False


def test_two_at_once_are_both_done(place: Place, merged: Report, scratch: Path) -> None:
    both = threading.Barrier(2, timeout=30)
    reports: list[Report] = []

    def waits(model: Path, out: Path) -> Quantized:
        both.wait()
        return writes(model, out)

    threads = [threading.Thread(target=lambda: reports.append(make(place, merged, method(waits)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = reports
    assert first.artifact == second.artifact
    assert {first.reused, second.reused} == {False, True}
    assert {path.partition("/")[2] for path in quantized(place)} == {MANIFEST_NAME, *MADE}
    assert list(scratch.iterdir()) == []


def test_a_merged_model_that_was_changed_is_refused(place: Place, merged: Report) -> None:
    assert merged.artifact
    folder = place.store().child(merged.artifact.key)
    content = bytearray(folder.read("model.safetensors", 0, folder.list()["model.safetensors"]))
    content[-1] ^= 1
    folder.put("model.safetensors", bytes(content))
    with pytest.raises(InvalidInput) as refused:
        make(place, merged, method())
    assert refused.value.reason is Reason.CORRUPT_ARTIFACT
    assert "model.safetensors has sha256 " in refused.value.message
    assert quantized(place) == {}


def test_a_merged_model_that_is_not_the_one_of_the_digest_is_refused(place: Place, merged: Report) -> None:
    other = f"{place.artifact(merged)},digest=sha256:{0:064x}"
    with pytest.raises(InvalidInput) as refused:
        quantize(parse_source(other), parse_source(place.artifacts), method())
    assert refused.value.reason is Reason.SOURCE_CHANGED
    assert merged.artifact
    assert merged.artifact.digest in refused.value.message


def test_an_artifact_that_is_no_model_is_refused(place: Place, merged: Report) -> None:
    made = make(place, merged, method(_without_config))
    with pytest.raises(InvalidInput) as refused:
        quantize(parse_source(place.artifact(made)), parse_source(place.artifacts), method())
    assert refused.value.reason is Reason.MISSING_FILE
    assert refused.value.message.endswith(" has no config.json, so it is no merged model: name one that is")


def _without_config(_model: Path, out: Path) -> Quantized:
    (out / "model.gguf").write_bytes(b"GGUF")
    return Quantized({"method": "gguf"})


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")])
def test_memory_that_runs_out_is_told_with_what_there_was_and_what_was_needed(
    place: Place, merged: Report, error: Exception
) -> None:
    def grows(_model: Path, _out: Path) -> Quantized:
        raise error

    with pytest.raises(Failed) as failed:
        make(place, merged, method(grows, memory_bytes=lambda _: 3_400_000_000))
    assert failed.value.reason is Reason.OUT_OF_MEMORY
    assert failed.value.message.startswith("memory ran out: it had ")
    assert failed.value.message.endswith(" and needs some 3.4 GB: end other programs, or use a machine with more")


def test_a_disk_too_small_is_told_before_anything_is_fetched(place: Place, merged: Report) -> None:
    with pytest.raises(Failed) as failed:
        make(place, merged, method(disk_bytes=lambda _: 10**18))
    assert failed.value.reason is Reason.DISK_FULL
    assert "and this step needs some 1000000 TB there" in failed.value.message


KILLED = """
import sys, time
from pathlib import Path
from ftm_jobs.quantize.artifact import Method, quantize
from ftm_jobs.stores.source import parse_source

def waits(model, out):
    (out / "half").write_bytes(b"half")
    print("converting", flush=True)
    time.sleep(60)

model, artifacts = map(parse_source, sys.argv[1:])
quantize(model, artifacts, Method(recipe=1, key=lambda key: f"gguf-{key[-32:]}", convert=waits))
"""


def test_a_run_after_a_killed_one_keeps_what_was_fetched_and_nothing_else(
    s3: S3, base: tuple[Path, Path], run: Run, scratch: Path
) -> None:
    sources = "--base", s3.upload(base[0]), "--adapter", s3.upload(base[1])
    merged = run("merge", *sources, "--artifacts", s3.artifacts)
    command = [sys.executable, "-c", KILLED, s3.artifact(merged), s3.artifacts]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert killed.stdout
    assert killed.stdout.readline() == b"converting\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (left,) = scratch.iterdir()
    kept = (left / "model/model.safetensors").stat().st_ino
    found: dict[str, object] = {}

    def looks(model: Path, out: Path) -> Quantized:
        found.update(kept=(model / "model.safetensors").stat().st_ino, out=list(out.iterdir()))
        return writes(model, out)

    assert make(s3, merged, method(looks)).reason == "Quantized"
    assert found == {"kept": kept, "out": []}
    assert list(scratch.iterdir()) == []


def test_files_of_the_local_disk_are_read_in_place(tmp_path: Path, run: Run, base: tuple[Path, Path]) -> None:
    disk = Disk(tmp_path / "disk")
    sources = "--base", disk.upload(base[0]), "--adapter", disk.upload(base[1])
    merged = run("merge", *sources, "--artifacts", disk.artifacts)

    def looks(model: Path, out: Path) -> Quantized:
        assert all(path.is_symlink() for path in model.iterdir())
        return writes(model, out)

    make(disk, merged, method(looks))


def test_progress_is_told_as_status_repeats_it(
    place: Place, merged: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    from ftm_jobs.contract.steps import progress_in

    make(place, merged, method())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("fetch: ", "upload: "))]
    assert {line.partition(":")[0] for line in lines} == {"fetch", "upload"}
    assert all(progress_in(line) for line in lines)


def test_it_needs_no_torch() -> None:
    loaded = "{'torch', 'numpy', 'transformers'} & sys.modules.keys()"
    code = f"import sys, ftm_jobs.quantize.gguf.conversion; sys.exit(bool({loaded}))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
