"""Plugins of the whole test tree."""

pytest_plugins = ["tests.skips", "tests.cluster.fixtures"]
