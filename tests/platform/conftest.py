"""Gives all tests of this folder one platform: the stack of the end-to-end tests with Traefik and a Prometheus."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.assets.tenants import prepare
from tests.cluster import debian
from tests.cluster import stack as stacks
from tests.cluster.progress import say, step
from tests.e2e.story import Story
from tests.platform.crds import install_crds
from tests.platform.keda import Keda
from tests.platform.monitoring import monitored
from tests.platform.platform import Platform
from tests.platform.traefik import Traefik
from tests.servers.seaweedfs import MODELS

NAMESPACE = "platform"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    debian.ensure_programs(("prometheus",), "a real Prometheus")
    with ExitStack() as ends:
        running = ends.enter_context(stacks.stack(installed=False))
        cluster, folder = running.cluster, tmp_path_factory.mktemp("platform")
        with step("installing the CRDs of the Gateway API and of KEDA"):
            install_crds(cluster.kubectl)
        if not cluster.kubectl.within(stacks.OPERATOR_NAMESPACE).list("deployments"):
            running.install()
        for name, adapter in prepare(running.assets, say).items():
            running.s3.upload(MODELS, f"adapters/{name}", adapter)
        story = Story(running, NAMESPACE)
        story.begin()
        traefik = Traefik(cluster, folder / "traefik")
        ends.callback(traefik.stop)
        with step("starting Traefik"):
            traefik.start()
        monitoring = folder / "prometheus"
        monitoring.mkdir()
        with step("starting Prometheus"):
            figures = ends.enter_context(monitored(story.kubectl, traefik, monitoring, cluster.host_address))
        yield Platform(story, traefik, figures)


@pytest.fixture(scope="session")
def keda(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keda]:
    scaler = Keda(platform.story.stack.cluster, tmp_path_factory.mktemp("keda"))
    try:
        scaler.start()
        yield scaler
    finally:
        scaler.stop()
