"""The import contracts hold, and each of them would notice being broken."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"
CONTRACTS: list[dict[str, Any]] = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
BREAKS = {
    "core": ("operator/ftm_operator/planning/plan.py", "import os"),
    "operator-layers": ("operator/ftm_operator/planning/plan.py", "import ftm_operator.runtime.controller"),
    "planning-layers": (
        "operator/ftm_operator/planning/rules/layout.py",
        "import ftm_operator.planning.memory.rank_memory",
    ),
    "jobs-layers": ("jobs/ftm_jobs/checkpoint/headers.py", "import ftm_jobs.steps.merge"),
    "operator-and-jobs": ("operator/ftm_operator/runtime/controller.py", "import ftm_jobs.stores.source"),
    "jobs-and-operator": ("jobs/ftm_jobs/stores/source.py", "import kubernetes"),
    "contract": ("jobs/ftm_jobs/contract/keys.py", "import torch"),
    "no-torch": ("jobs/ftm_jobs/artifacts/fetch.py", "import torch"),
    "awq-layers": ("jobs/ftm_jobs/quantize/awq/layout.py", "import ftm_jobs.quantize.awq.engines.packing"),
    "verify-layers": ("jobs/ftm_jobs/verify/tensors/sources.py", "import ftm_jobs.verify.models.groups"),
    "figures": ("jobs/ftm_jobs/verify/figures/checks.py", "import time"),
    "local": ("operator/ftm_operator/local/steps.py", "import ftm_operator.resources.job"),
    "merge-layers": ("jobs/ftm_jobs/merge/blocks.py", "import ftm_jobs.merge.rewrite"),
    "merge-torch": ("jobs/ftm_jobs/merge/plan.py", "import torch"),
    "one-client": ("operator/ftm_operator/runtime/controller.py", "import kubernetes"),
}
CLOCKS_AND_IO = {"now", "utcnow", "today", "open", "print", "read_text", "write_text", "getenv"}


def lint_imports(tree: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tree / "operator"), str(tree / "jobs")])},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copy(PYPROJECT, tmp_path)
    for folder in ("operator", "jobs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_contract_notices_when_it_is_broken(tree: Path) -> None:
    assert set(BREAKS) == {contract["id"] for contract in CONTRACTS}
    for name, line in BREAKS.values():
        path = tree / name
        path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint_imports(tree)
    assert f"0 kept, {len(CONTRACTS)} broken" in done.stdout, done.stdout + done.stderr


def core_modules() -> list[Path]:
    core = next(contract for contract in CONTRACTS if contract["id"] == "core")
    found: list[Path] = []
    for module in core["source_modules"]:
        path = ROOT / "operator" / Path(*module.split("."))
        found += path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return sorted(found)


@pytest.mark.parametrize("path", core_modules(), ids=lambda path: path.stem)
def test_what_decides_reads_no_clock_and_touches_no_file(path: Path) -> None:
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not called & CLOCKS_AND_IO
