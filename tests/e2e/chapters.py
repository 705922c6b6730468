"""Chapters of a long story: a test says what it needs of earlier ones, and what later ones may need of it.

    @chapter(needs={"a served model"})
    def test_3_…

A chapter whose needs no earlier chapter of the same run has met fails at once, with the chapters to run before it.
"""

from collections.abc import Callable, Collection, Generator
from typing import TypeVar

import pytest

Chapter = TypeVar("Chapter", bound=Callable[..., None])
MET = pytest.StashKey[set[str]]()


def chapter(*, needs: Collection[str] = (), leaves: Collection[str] = ()) -> Callable[[Chapter], Chapter]:
    """Marks a test as a chapter; what it leaves is there for later ones once it has passed."""
    return pytest.mark.chapter(needs=frozenset(needs), leaves=frozenset(leaves))


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = _declared(item, "needs") - _met(item)
    if missing:
        before = ", ".join(_leaving(item, missing)) or "no chapter"
        pytest.fail(f"{item.name} needs {' and '.join(sorted(missing))}, left by {before}: run it too", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed:
        _met(item).update(_declared(item, "leaves"))
    return report


def _declared(item: pytest.Item, side: str) -> frozenset[str]:
    marker = item.get_closest_marker("chapter")
    return marker.kwargs[side] if marker else frozenset()


def _met(item: pytest.Item) -> set[str]:
    return _module(item).stash.setdefault(MET, set())


def _leaving(item: pytest.Item, missing: Collection[str]) -> list[str]:
    """Returns the names of the module's tests that leave any of this."""
    marks = {
        name: mark
        for name, test in vars(_module(item).obj).items()
        for mark in getattr(test, "pytestmark", [])
        if isinstance(test, Callable) and mark.name == "chapter"  # type: ignore[arg-type]
    }
    return [name for name, mark in marks.items() if mark.kwargs["leaves"] & set(missing)]


def _module(item: pytest.Item) -> pytest.Module:
    module = item.getparent(pytest.Module)
    assert module is not None
    return module
