"""`ftm run` says what it needs on this machine and does not find."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.local import engine as local_engine
from ftm_operator.local import steps as local
from ftm_operator.local.errors import LocalError
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.plan import Planned
from ftm_operator.planning.rules.awq import AwqChoice
from tests.unit.operator.objects import facts, report
from tests.unit.operator.resources.test_resources import model

AWQ = Decision("vLLM", (), awq=AwqChoice(64, "autoawq", ()))


def test_an_engine_of_awq_that_is_not_installed_is_named_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FTM_AWQ_PYTHON", raising=False)
    monkeypatch.setattr(local, "run_command", lambda *_: pytest.fail("a step was run"))
    with pytest.raises(LocalError, match=r"autoawq is not installed here.*quantize-awq.txt.*set FTM_AWQ_PYTHON"):
        local.build(model(), facts(), Planned(Plan(), AWQ))
    missing = replace(AWQ, awq=AwqChoice(64, "llm-compressor", ()))
    with pytest.raises(LocalError, match="set FTM_COMPRESSOR_PYTHON"):
        local.build(model(), facts(), Planned(Plan(), missing))


def test_a_step_in_another_python_sees_our_jobs_and_nothing_else_of_ours(tmp_path: Path) -> None:
    told = json.dumps(report(Step.QUANTIZE, "Quantized").to_json())
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nls $PYTHONPATH\necho '{told}'\n")
    python.chmod(0o755)
    assert local.run_command(Step.QUANTIZE, [], "awq", str(python)).outcome is Outcome.DONE
    python.write_text("#!/bin/sh\nls $PYTHONPATH\n")
    assert local.last_line("awq", [], str(python)) == (0, "ftm_jobs")


def test_without_a_build_of_llama_cpp_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FTM_LLAMA_CPP", raising=False)
    with pytest.raises(LocalError, match="run `make llama-cpp`, set FTM_LLAMA_CPP"):
        local_engine._llama_server_program()
    program = tmp_path / "ftm-operator/llama.cpp/current/bin/llama-server"
    program.parent.mkdir(parents=True)
    program.touch()
    assert local_engine._llama_server_program() == str(program)
