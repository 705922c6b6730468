"""`ftm run` waits for what the agent says of the adapters, and says it on."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest

from ftm_jobs.contract.run_time_adapters import AdapterState, Effect, HeldAdapter, HeldAdapters
from ftm_operator.command.serving.adapters import format_pod
from ftm_operator.command.serving.run import format_answers
from ftm_operator.local import adapters as local_adapters
from ftm_operator.local.adapters import standing
from ftm_operator.local.errors import LocalError

LAW = HeldAdapter(name="law", digest="sha256:1", state=AdapterState.LOADED, serving="sha256:1")
TAX = HeldAdapter(
    name="tax", digest="sha256:2", state=AdapterState.FAILED, reason="NoEffect", message="it changes nothing"
)
LOADING = LAW.model_copy(update={"state": AdapterState.LOADING, "serving": None})


def said(snapshot: int, *adapters: HeldAdapter, wanted: str = "now") -> str:
    lines = HeldAdapters(snapshot=snapshot, wanted=wanted, adapters=adapters).lines()
    return "".join(f"print('''{line}''', flush=True)\n" for line in lines)


@pytest.fixture
def files() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        yield stdout, stderr


def awaited(files: tuple[IO[bytes], IO[bytes]], script: str) -> HeldAdapters:
    stdout, stderr = files
    command = [sys.executable, "-c", f"import time\n{script}"]
    with subprocess.Popen(command, stdout=stdout, stderr=stderr) as process:
        try:
            return local_adapters._awaited(process, stdout, stderr, "now")
        finally:
            process.kill()


def test_it_waits_until_no_adapter_is_on_its_way_and_says_how_each_stands(
    files: tuple[IO[bytes], IO[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    script = said(1, LAW, TAX, wanted="before") + said(2, LOADING, TAX) + "time.sleep(0.5)\n" + said(3, LAW, TAX)
    held = awaited(files, script + "time.sleep(60)")
    assert (held.snapshot, held.adapters) == (3, (LAW, TAX))
    assert capsys.readouterr().err == "ftm: law: Loaded\nftm: tax: Failed (NoEffect: it changes nothing)\n"


def test_an_agent_that_ends_is_an_error_with_its_last_lines(files: tuple[IO[bytes], IO[bytes]]) -> None:
    with pytest.raises(LocalError, match=r"agent ended with exit code 3; its last lines:\nno guard"):
        awaited(files, "import sys; sys.stderr.write('no guard'); sys.exit(3)")


def test_an_adapter_that_does_not_load_is_named(
    files: tuple[IO[bytes], IO[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_adapters, "LOAD_SECONDS", 5)
    with pytest.raises(LocalError, match="the engine does not answer for law after 5 s"):
        awaited(files, said(1, LOADING, TAX) + "time.sleep(60)")


def test_a_pod_is_a_row_for_each_adapter() -> None:
    measured = LAW.model_copy(update={"effect": Effect(difference=0.104, rounding=0.0039), "serving": "sha256:0"})
    held = HeldAdapters(snapshot=1, wanted="now", engine_ready=False, unloaded=2, adapters=(measured, TAX))
    assert (
        format_pod("bot-0", held)
        == """\
bot-0: 2 adapters, whose engine does not answer, 2 unloaded since its start
  law: Loaded, effect 0.104 nats, rounding 0.0039, answers as its former version
  tax: Failed (NoEffect: it changes nothing)"""
    )
    assert standing(LOADING) == "law: Loading"


def test_answers_of_several_models_have_their_names() -> None:
    asked = [{"model": name, "question": "Who?", "answer": "Me"} for name in ("base", "law")]
    assert format_answers(asked[:1]) == "Q: Who?\nA: Me"
    assert format_answers(asked) == "Q: Who?\nbase: Me\nlaw: Me"
