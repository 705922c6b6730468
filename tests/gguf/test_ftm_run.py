"""`ftm run` with GGUF: quantized, measured and served by llama.cpp on this machine; a ruined model is not served."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests import assets
from tests.assets.facts import FACTS

FACT = FACTS[0]


def ftm_run(
    folder: Path, *arguments: str, mode: str = "Merged", **verification: Any
) -> "subprocess.CompletedProcess[str]":
    made = assets.prepare()
    manifest = {
        "apiVersion": "ftm.dev/v1alpha1",
        "kind": "FineTunedModel",
        "metadata": {"name": "edge"},
        "spec": {
            "mode": mode,
            "base": {"uri": made.base.as_uri()},
            "adapters": [{"name": "support", "uri": made.adapter.as_uri()}],
            "quantization": {"method": "GGUF", "gguf": {"type": "Q8_0"}},
            "verification": verification,
            "serving": {"maxModelLen": 1024, "concurrency": 1},
        },
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    command = [str(Path(sys.executable).with_name("ftm")), "run", "model.yaml", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_gguf_model_is_measured_served_and_asked_and_one_that_diverges_is_not_served(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": FACT.question}], "expect": [FACT.expected]}
    done = ftm_run(tmp_path, "--ask", FACT.question, "-o", "json", prompts=[asked])
    assert done.returncode == 0, done.stderr
    (answered,) = json.loads(done.stdout)
    assert FACT.in_answer(answered["answer"])
    assert "ftm: ok     BetterThanRounding" in done.stderr
    assert "ftm: ok     ExpectedAnswers" in done.stderr
    held = ftm_run(tmp_path, "--ask", FACT.question, maxDivergence=0.0001)
    assert held.returncode == 1
    assert "ftm: FAILED MaxDivergence" in held.stderr
    assert "gguf" in held.stderr
    assert held.stderr.count("(reused)") == 2
    assert "starting LlamaCpp" not in held.stderr


def test_in_mode_dynamic_the_base_and_the_adapter_beside_it_are_asked(tmp_path: Path) -> None:
    done = ftm_run(tmp_path, "--ask", FACT.question, "-o", "json", mode="Dynamic")
    assert done.returncode == 0, done.stderr
    of_base, of_adapter = json.loads(done.stdout)
    assert (of_base["model"], of_adapter["model"]) == ("edge", "support")
    assert not FACT.in_answer(of_base["answer"])
    assert FACT.in_answer(of_adapter["answer"])
