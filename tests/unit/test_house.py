"""The code keeps the house's rules, and each rule notices the code that breaks it."""

import pytest

from tests.unit.house import RULES, Module, exceptions, offences

LONG = "\n".join(f"    line_{number} = {number}" for number in range(150))
BROKEN = {
    "long_files": [Module("jobs/ftm_jobs/a.py", "one = 1\n" * 401)],
    "long_functions": [Module("jobs/ftm_jobs/a.py", f"class A:\n  async def f(self):\n{LONG}")],
    "long_classes": [Module("jobs/ftm_jobs/a.py", f"class A:\n{LONG}")],
    "full_folders": [Module(f"jobs/ftm_jobs/a/{number}.py", "") for number in range(16)],
    "many_parameters": [Module("jobs/ftm_jobs/a.py", "def f(a, /, b, c, d, *, e, g, h): ...")],
    "shared_class_names": [
        Module("jobs/ftm_jobs/a.py", "class A: ..."),
        Module("operator/ftm_operator/b.py", "def f():\n  class A: ..."),
    ],
    "docstrings_without_a_subject": [Module("jobs/ftm_jobs/a.py", 'class A:\n  b: int\n  """Of the bytes."""')],
    "prints_in_jobs": [Module("jobs/ftm_jobs/a.py", "def f():\n  print(1)")],
}


def test_no_code_breaks_a_rule_but_the_exceptions() -> None:
    new = sorted(" ".join(offence) for offence in offences() - exceptions())
    assert not new, "these places break a rule of tests/unit/house.py; mend them"


def test_every_exception_still_breaks_its_rule() -> None:
    stale = sorted(" ".join(exception) for exception in exceptions() - offences())
    assert not stale, "mended: `.venv/bin/python -m tests.unit.house` takes these lines out of house_exceptions.txt"


@pytest.mark.parametrize("name", RULES)
def test_each_rule_notices_code_that_breaks_it(name: str) -> None:
    assert len(RULES[name](BROKEN[name])) == 1


@pytest.mark.parametrize("name", RULES)
def test_each_rule_is_content_with_less(name: str) -> None:
    kept = Module(
        "operator/ftm_operator/a.py", 'def f(self, a, b, c, d, e, g):\n    """Returns what is left."""\n    print(1)'
    )
    assert RULES[name]([kept]) == []
