"""Plugins of the whole test tree."""

pytest_plugins = ["tests.skips", "tests.step_fixtures", "tests.cluster.fixtures", "tests.e2e.chapters"]
