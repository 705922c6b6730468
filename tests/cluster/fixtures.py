"""Fixtures: one control plane a session, one cluster with a node a module; what cannot be had is skipped with a reason.

What takes minutes the first time (Go build, images) is made before the first test, so no test's time limit counts it.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest

from tests.cluster import binaries, cluster, existing
from tests.cluster.catalogue import PAUSE, PROJECT
from tests.cluster.cluster import NodeCluster
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.progress import say
from tests.cluster.unavailable import Unavailable

Running = TypeVar("Running")
NODE_FIXTURES = {"node_cluster"}
CONTROL_PLANE_FIXTURES = {"control_plane", "kubectl"}


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    with _visible(session.config):
        if used & CONTROL_PLANE_FIXTURES:
            _prepared(lambda: existing.chosen() or binaries.resolve())
        if used & NODE_FIXTURES:
            _prepared(lambda: cluster.prepare((PAUSE, *PROJECT)))


def _prepared(make: Callable[[], object]) -> None:
    try:
        make()
    except (Unavailable, RuntimeError) as reason:
        say(str(reason))  # the fixture meets it again, and skips or fails each test that needs it


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server: the existing one that FTM_TEST_CLUSTER=existing chooses, else one of our own."""
    if existing.chosen():
        yield existing.control_plane()
        return
    context = cluster.control_plane(tmp_path_factory.mktemp("control-plane"))
    yield from _running(context, request.config)


@pytest.fixture(scope="module")
def node_cluster(request: pytest.FixtureRequest) -> Iterator[NodeCluster]:
    """A cluster whose node runs pods and has the project's images."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield from _running(cluster.node_cluster(PROJECT), request.config)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return control_plane.kubectl


def _running(context: AbstractContextManager[Running], config: pytest.Config) -> Iterator[Running]:
    with _visible(config):
        try:
            running = context.__enter__()
        except Unavailable as reason:
            pytest.skip(str(reason))
    try:
        yield running
    finally:
        context.__exit__(None, None, None)


def _visible(config: pytest.Config) -> AbstractContextManager[None]:
    """Progress goes to the terminal, not into the output of the test that happens to be first."""
    capture = config.pluginmanager.getplugin("capturemanager")
    shown: AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return shown
