"""A chapter that needs an earlier one says so when it is run alone; the stories tell theirs in an order that works."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import test_adapters_story, test_awq_story, test_story

ROOT = Path(__file__).parents[2]
STORY = """
from tests.e2e.chapters import chapter

@chapter(leaves={"a house"})
def test_1_built():
    assert BUILT

@chapter(needs={"a house"})
def test_2_painted():
    pass
"""


def run(folder: Path, *arguments: str, built: bool = True) -> "subprocess.CompletedProcess[str]":
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    chapter\n")
    (folder / "test_tale.py").write_text(f"BUILT = {built}\n{STORY}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.e2e.chapters", *arguments]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_a_chapter_after_the_one_that_it_needs_is_run(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("arguments", [["-k", "painted"], []], ids=["alone", "after a failure"])
def test_a_chapter_whose_needs_are_not_met_names_the_chapter_to_run(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments, built=False)
    assert "test_2_painted needs a house, left by test_1_built: run it too" in done.stdout, done.stdout


@pytest.mark.parametrize("story", [test_story, test_adapters_story, test_awq_story], ids=lambda story: story.__name__)
def test_every_chapter_comes_after_those_that_it_needs(story: Any) -> None:
    left: set[str] = set()
    for name, test in vars(story).items():
        for mark in [mark for mark in getattr(test, "pytestmark", []) if mark.name == "chapter"]:
            assert mark.kwargs["needs"] <= left, name
            left |= mark.kwargs["leaves"]
    assert left
