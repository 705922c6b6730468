"""The environments of the AWQ engines, made from their requirements in the user's cache: their pins cannot be .venv's.

The first time each is some 5 GB and a minute or two of downloads; afterwards a look at a file.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cache import cache
from tests.cluster.locks import alone
from tests.cluster.progress import step

ROOT = Path(__file__).parents[2]
INSTALL = "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes"
THREADS = 2
"""Sums are added up in an order that depends on it."""


def python_of(engine: str) -> Path:
    """The interpreter that has what requirements/quantize-<engine>.txt pins: awq or compressor."""
    requirements = ROOT / f"requirements/quantize-{engine}.txt"
    folder = cache("venvs", engine)
    wanted = hashlib.sha256(b" ".join([requirements.read_bytes(), *map(str.encode, INSTALL)])).hexdigest()
    installed = folder / ".installed"
    if not installed.exists() or installed.read_text() != wanted:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone("venvs", "another installation to end"), step(f"installing quantize-{engine}.txt (once, 5 GB)"):
            _install(folder, requirements)
            installed.write_text(wanted)
    return folder / "bin/python"


def _install(folder: Path, requirements: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not (folder / "bin/python").exists():
        _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)])
    _run(
        [str(uv), *INSTALL, str(requirements)],
        {"VIRTUAL_ENV": str(folder)},
    )


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")


def jobs_environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "jobs"), str(ROOT)]),
        "OMP_NUM_THREADS": str(THREADS),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait must not hold a busy machine's cores
        "CUDA_VISIBLE_DEVICES": "",
    }


def ask_vllm(asked: Sequence[tuple[Path, Sequence[str], str]]) -> list[dict[str, Any]]:
    """Returns of each model its quantization as vLLM found it, answers to questions, and nats per token of a text."""
    command = [sys.executable, str(Path(__file__).with_name("vllm_answers.py"))]
    given = json.dumps([[str(model), questions, text] for model, questions, text in asked])
    done = subprocess.run(command, input=given, env=jobs_environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"vLLM ended with {done.returncode}: {done.stderr.strip()[-4000:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_tasks(engine: str, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the answers of `tasks.py` to each task, all in one process of the engine's environment."""
    command = [str(python_of(engine)), str(Path(__file__).with_name("tasks.py"))]
    done = subprocess.run(
        command, input=json.dumps(list(tasks)), env=jobs_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"tasks.py ended with {done.returncode}: {done.stderr.strip()[-4000:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
