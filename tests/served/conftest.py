"""Gives the tests a namespace of a stack, which is prepared when the first of them begins."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cluster import stack as stacks
from tests.cluster.unavailable import Unavailable
from tests.e2e.story import Story


@pytest.fixture(scope="session")
def story() -> Iterator[Story]:
    with ExitStack() as ends:
        try:
            running = ends.enter_context(stacks.stack())
        except Unavailable as reason:
            pytest.skip(str(reason))
        told = Story(running, "served")
        told.begin()
        yield told
        told.kubectl("delete", "finetunedmodels", "--all", "--wait")
