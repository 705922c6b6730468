"""A merged SmolLM2, and what the engine made of it, once per session."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.text.calibration import bundled
from ftm_jobs.text.chat_template import load_template, render
from tests.assets import prepare
from tests.awq.environments import jobs_environment, python_of
from tests.awq.models import first_blocks

SAMPLES = 4
"""Enough to search by, and few enough for two cores."""


BLOCKS = 2
"""A few of SmolLM2's thirty, where a test needs real weights and no sense."""


@dataclass(frozen=True)
class Made:
    folder: Path
    report: dict[str, Any]
    log: str
    command: tuple[str, ...]


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 with the adapter that was taught facts, by the merge step."""
    assets, out = prepare(), tmp_path_factory.mktemp("merged")
    command = [sys.executable, "-m", "ftm_jobs", "merge", "--base", assets.base.as_uri()]
    command += ["--adapter", assets.adapter.as_uri(), "--artifacts", out.as_uri()]
    done = subprocess.run(command, env=jobs_environment(), capture_output=True, text=True, check=True)
    return out / str(json.loads(done.stdout.splitlines()[-1])["artifact"]["key"])


@pytest.fixture(scope="session")
def texts(merged: Path) -> list[str]:
    """Calibration text as the model sees it."""
    return render(bundled().samples[:SAMPLES], load_template(merged))


@pytest.fixture(scope="session")
def small(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first blocks of the merged model."""
    return first_blocks(merged, tmp_path_factory.mktemp("small") / "model", BLOCKS)


@pytest.fixture(scope="session")
def quantized(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The artifact of `python -m ftm_jobs awq`, in AutoAWQ's environment, with a calibration file of its own."""
    out = tmp_path_factory.mktemp("quantized")
    calibration = out / "calibration.jsonl"
    lines = (Path(__file__).parents[2] / "jobs/ftm_jobs/data/calibration.jsonl").read_text().splitlines()
    calibration.write_text("\n".join(lines[:SAMPLES]) + "\n")
    command = [str(python_of("awq")), "-m", "ftm_jobs", "awq", "--model", merged.as_uri()]
    command += ["--artifacts", (out / "artifacts").as_uri(), "--calibration", calibration.as_uri()]
    done = subprocess.run(command, env=jobs_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    return Made(out / "artifacts" / report["artifact"]["key"], report, done.stderr, tuple(command))
