"""`ftm chat MANIFEST --compare` serves what the manifest is made of, each part by an engine of its own."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.run_time_adapters import AdapterState, HeldAdapter, HeldAdapters
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.command.serving import local_model
from ftm_operator.local import engine as local_engine
from ftm_operator.local import steps as local_steps
from ftm_operator.local.adapters import DynamicFolders
from ftm_operator.local.engine import RunningEngine
from ftm_operator.local.engine_client import EngineClient
from ftm_operator.local.errors import StepFailed
from tests.unit.operator.command.openai_server import openai_server
from tests.unit.operator.command.test_cli import ftm
from tests.unit.operator.local.test_manifest_file import TEXT, written
from tests.unit.operator.objects import adapter_facts, base_facts

FOLDERS = DynamicFolders(Path("/base"), Path("/guard"), Path("/adapters"))


def artifact(step: str) -> Artifact:
    return Artifact(key=f"{step}-1", uri=f"file:///{step}-1", digest="sha256:1", total_bytes=1, files=1)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """The folders that engines serve, with their plan's mode; every engine is the same server."""
    started: list[tuple[str, str]] = []
    held = HeldAdapter(name="law", digest="sha256:1", state=AdapterState.LOADED)
    failed = HeldAdapter(name="tax", digest="sha256:2", state=AdapterState.FAILED)
    with openai_server() as url:

        @contextlib.contextmanager
        def serve(_: FineTunedModel, plan: Plan, folder: Path, *__: Any, **___: Any) -> Iterator[RunningEngine]:
            started.append((str(folder), str(plan.mode)))
            yield RunningEngine(EngineClient(url, "bot"), None)  # type: ignore[arg-type]

        @contextlib.contextmanager
        def hold(*_: Any) -> Iterator[HeldAdapters]:
            yield HeldAdapters(snapshot=1, wanted="now", adapters=(held, failed))

        monkeypatch.setattr(local_engine, "serve", serve)
        monkeypatch.setattr(local_model, "held_adapters", hold)
        monkeypatch.setattr(local_model, "keep_adapters", lambda *_: None)
        monkeypatch.setattr(local_model, "fetch_base", lambda *_: FOLDERS)
        monkeypatch.setattr(local_steps, "inspect", inspected)
        monkeypatch.setattr("sys.stdin", io.StringIO("Who?\n"))
        yield started


def inspected(_: FineTunedModel) -> Facts:
    return Facts(base=base_facts(), adapters=(adapter_facts(), adapter_facts()))


def test_base_adapters_merged_and_quantized_are_asked(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    served: list[tuple[str, str]],
) -> None:
    monkeypatch.setattr(local_steps, "build", lambda *_: (artifact("merge"), artifact("awq")))
    code, out, _ = ftm(capsys, "chat", str(written(tmp_path, TEXT)), "--compare")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["base", "law", "merged", "quantized"]
    assert served == [("/awq-1", "Merged"), ("/base", "Dynamic"), ("/merge-1", "Merged")]


def test_what_cannot_be_served_unmerged_is_left_out_with_the_reason(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    served: list[tuple[str, str]],
) -> None:
    def refuse(*_: Any) -> None:
        raise StepFailed("adapter: NotServedUnmerged: DoRA", 2)

    monkeypatch.setattr(local_steps, "build", lambda *_: (artifact("merge"),))
    monkeypatch.setattr(local_model, "keep_adapters", refuse)
    code, out, err = ftm(capsys, "chat", str(written(tmp_path, TEXT)), "--compare")
    assert (code, out) == (0, "bot heard 1\n")
    assert "ftm: base and adapters are not compared: adapter: NotServedUnmerged: DoRA\n" in err
    assert served == [("/merge-1", "Merged")]


def test_a_model_that_the_manifest_does_not_have_is_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    served: list[tuple[str, str]],
) -> None:
    monkeypatch.setattr(local_steps, "build", lambda *_: (artifact("merge"),))
    path = written(tmp_path, TEXT)
    code, _, err = ftm(capsys, "chat", str(path), "--compare", "--model", "civil")
    assert (code, err) == (2, f"ftm: {path} has no model civil; it has base, law, merged\n")
    assert len(served) == 2
