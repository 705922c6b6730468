"""`python -m ftm_jobs`: reports, exit codes, and what each step imports."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ftm_jobs.steps.inspect
from ftm_jobs import __main__ as command_line
from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import Failed, Interrupted, InvalidInput, Reason
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, LLAMA_CONFIG, zeros

SOURCES = ["--base", "file:///base", "--adapter", "file:///adapter"]
WITHOUT_LIBRARIES = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"jinja2", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"}:
            raise ModuleNotFoundError(f"{name} is not in this image")
sys.meta_path.insert(0, Absent())
sys.argv[0] = "ftm_jobs"
runpy.run_module("ftm_jobs", run_name="__main__")
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Report]:
    code = command_line.main(arguments)
    return code, Report.model_validate_json(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("error", "code", "outcome", "reason", "message"),
    [
        (InvalidInput(Reason.MISSING_FILE, "a sentence"), 2, Outcome.INVALID_INPUT, "MissingFile", "a sentence"),
        (Failed(Reason.STORE_UNAVAILABLE, "a sentence"), 1, Outcome.FAILED, "StoreUnavailable", "a sentence"),
        (Interrupted(), 1, Outcome.FAILED, "Interrupted", "the step was stopped before it was done; run it again"),
        (
            MemoryError(),
            1,
            Outcome.FAILED,
            "OutOfMemory",
            "memory ran out: end other programs, or use a machine with more",
        ),
        (
            ValueError("some\nthing"),
            1,
            Outcome.FAILED,
            "InternalError",
            "ValueError: some thing (the log has the traceback)",
        ),
    ],
)
def test_however_a_step_ends_there_is_a_report_and_the_right_exit_code(
    error: BaseException,
    code: int,
    outcome: Outcome,
    reason: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> Report:
        raise error

    monkeypatch.setattr(ftm_jobs.steps.inspect, "inspect", fails)
    found_code, report = run(capsys, "inspect", *SOURCES)
    assert (found_code, report.outcome, report.reason, report.message) == (code, outcome, reason, message)


def test_an_unexpected_error_leaves_its_traceback_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Report:
        raise KeyError("weight")

    monkeypatch.setattr(ftm_jobs.steps.inspect, "inspect", fails)
    assert command_line.main(["inspect", *SOURCES]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_report_is_also_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "termination-log"
    code, report = run(capsys, "inspect", "--base", "nonsense", "--adapter", "file:///a", "--report", str(log))
    assert code == 2
    assert report.reason == "InvalidURI"
    assert Report.model_validate_json(log.read_text()) == report


@pytest.mark.parametrize("step", [[], ["inspect"], ["merge"], ["fetch"]])
def test_help_says_what_a_source_is_and_what_exit_codes_mean(
    step: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main([*step, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "retry is useless" in text
    assert not step or "URI[,digest=sha256:…][,credentials=DIR]" in text


def without_torch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", WITHOUT_LIBRARIES, *arguments], capture_output=True, text=True)


def test_inspect_adapter_and_fetch_need_neither_torch_nor_numpy_nor_safetensors(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    (base / "model.safetensors").write_bytes(zeros(BASE_SHAPES))
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    (adapter / "adapter_model.safetensors").write_bytes(zeros(ADAPTER_SHAPES))
    done = without_torch("inspect", "--base", base.as_uri(), "--adapter", adapter.as_uri())
    assert Report.model_validate_json(done.stdout).reason == "Inspected", done.stdout + done.stderr
    sources = "--base", base.as_uri(), "--adapter", adapter.as_uri()
    done = without_torch("adapter", *sources, "--artifacts", (tmp_path / "artifacts").as_uri())
    assert Report.model_validate_json(done.stdout).reason == "AdapterKept", done.stdout + done.stderr
    done = without_torch("fetch", "--base", base.as_uri(), "--to", str(tmp_path / "model"))
    assert Report.model_validate_json(done.stdout).reason == "Fetched", done.stdout + done.stderr
    assert done.returncode == 0


def test_fetch_of_an_artifact_needs_neither_torch_nor_numpy_nor_safetensors(tmp_path: Path) -> None:
    artifact = tmp_path / "merge-0"
    artifact.mkdir()
    (artifact / "a").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    files = (ManifestFile(path="a", size=0, sha256=empty),)
    manifest = Manifest(key="merge-0", step=Step.MERGE, recipe=1, inputs=(), files=files)
    (artifact / MANIFEST_NAME).write_bytes(encode(manifest))
    done = without_torch("fetch", "--artifact", artifact.as_uri(), "--to", str(tmp_path / "to"))
    assert Report.model_validate_json(done.stdout).reason == "Fetched", done.stdout + done.stderr
    assert done.returncode == 0


def test_a_store_of_one_kind_does_not_import_the_other_kinds_client() -> None:
    script = (
        "import sys; from ftm_jobs.stores.source import parse_source; from ftm_jobs.stores import open_store;"
        "open_store(parse_source('{}')); print(*sys.modules)"
    )
    for uri, absent in (("file:///a", {"boto3", "huggingface_hub"}), ("s3://models/a", {"huggingface_hub"})):
        done = subprocess.run([sys.executable, "-c", script.format(uri)], capture_output=True, text=True, check=True)
        assert not absent & set(done.stdout.split())


def test_sigterm_ends_a_step_with_a_report() -> None:
    script = (
        "import ftm_jobs.steps.inspect, runpy, sys, time\n"
        "def slow(*_):\n    print('begun', flush=True)\n    time.sleep(600)\n"
        "ftm_jobs.steps.inspect.inspect = slow\n"
        "runpy.run_module('ftm_jobs', run_name='__main__')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, "inspect", *SOURCES], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    report = Report.model_validate_json(process.stdout.readline())
    assert process.wait(120) == 1
    assert (report.outcome, report.reason) == (Outcome.FAILED, "Interrupted")
