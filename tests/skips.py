"""Marks tests by the folder they are in, and keeps continuous integration from passing by skipping.

With CI=true a skipped cluster or end-to-end test has failed; everywhere else pytest's summary says why it was skipped.
"""

import os
from collections.abc import Generator

import pytest

NEVER_SKIPPED_ON_CI = ("cluster", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if name := _never_skipped(item):
            item.add_marker(name)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _never_skipped(collector):
        _fail_on_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _never_skipped(item):
        _fail_on_ci(report)
    return report


def _never_skipped(node: pytest.Item | pytest.Collector) -> str | None:
    root = node.config.rootpath
    parts = node.path.relative_to(root).parts if node.path.is_relative_to(root) else ()
    return next((name for name in NEVER_SKIPPED_ON_CI if name in parts), None)


def _fail_on_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI", "").casefold() not in {"1", "true", "yes"}:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"CI is set, and this did not run: {reason}"
