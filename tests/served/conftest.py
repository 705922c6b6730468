"""Gives the tests a namespace of a stack, which is prepared when the first of them begins."""

from collections.abc import Iterator

import pytest

from tests.cluster import stack as stacks
from tests.e2e.story import Story


@pytest.fixture(scope="session")
def story() -> Iterator[Story]:
    with stacks.stack() as running:
        told = Story(running, "served")
        told.begin()
        yield told
        told.kubectl("delete", "finetunedmodels", "--all", "--wait")
