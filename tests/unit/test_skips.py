"""Continuous integration cannot pass by skipping what needs a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_A_TEST = "import pytest\n\n\ndef test_it():\n    pytest.skip('needs root')\n"
IN_A_MODULE = "import pytest\n\npytest.skip('needs root', allow_module_level=True)\n"


def run(tree: Path, folder: str, source: str, ci: str) -> "subprocess.CompletedProcess[str]":
    (tree / folder).mkdir(parents=True)
    (tree / "pytest.ini").write_text("[pytest]\nmarkers =\n    cluster\n    e2e\n")
    (tree / folder / "test_something.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.skips", str(tree)],
        cwd=tree,
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("source", [IN_A_TEST, IN_A_MODULE])
@pytest.mark.parametrize("folder", ["cluster", "e2e"])
def test_a_skipped_cluster_test_fails_on_ci_and_says_why(tmp_path: Path, folder: str, source: str) -> None:
    done = run(tmp_path, folder, source, ci="true")
    assert done.returncode != 0
    assert "CI is set, and this did not run: Skipped: needs root" in done.stdout


def test_a_skipped_cluster_test_passes_elsewhere(tmp_path: Path) -> None:
    done = run(tmp_path, "cluster", IN_A_TEST, ci="")
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True)


def test_other_tests_may_be_skipped_on_ci(tmp_path: Path) -> None:
    assert run(tmp_path, "unit", IN_A_TEST, ci="true").returncode == 0
