"""Tests keep a rule of their own: one without an assertion says in its name what would fail."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
DENIAL = re.compile(r"_(no|not|nothing|never)(_|$)")
FAILING = {"raises", "fail"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{path.relative_to(TESTS)}:{node.name}", node


def calls(function: Function) -> set[str]:
    named = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in named}


def asserts(function: Function) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(function)) or bool(calls(function) & FAILING)


def test_a_test_without_an_assertion_says_in_its_name_what_would_fail() -> None:
    found = list(functions())
    helpers = {node.name for _, node in found if not node.name.startswith("test_") and asserts(node)}
    silent = [
        place
        for place, node in found
        if node.name.startswith("test_")
        and not asserts(node)
        and not calls(node) & helpers
        and not DENIAL.search(node.name)
    ]
    assert not silent, "assert something, or name the failure: test_no_text_crashes_the_parser"
