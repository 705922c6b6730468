"""Gives all end-to-end tests of a run the same stack, which is prepared when the first of them begins."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.stack import stack
from tests.cluster.unavailable import Unavailable
from tests.e2e.story import Story


@pytest.fixture(scope="session")
def story() -> Iterator[Story]:
    with ExitStack() as ends:
        try:
            running = ends.enter_context(stack())
        except Unavailable as reason:
            pytest.skip(str(reason))
        told = Story(running)
        told.begin()
        yield told
