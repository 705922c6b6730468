"""Gives all tests of this folder one stack whose node runs containerd 2, and a registry that the node reaches."""

from collections.abc import Iterator

import pytest

from tests.cluster import stack as stacks
from tests.cluster.containerd import ContainerdPrograms
from tests.cluster.stack import Stack
from tests.image_volumes.programs import containerd_folder
from tests.servers.registry import RegistryServer, registry


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack of the end-to-end tests; its node's images are in a store of containerd 2's own."""
    programs = ContainerdPrograms(containerd_folder(), "containerd-2-images")
    with stacks.stack(containerd=programs) as running:
        yield running


@pytest.fixture(scope="session")
def docker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with a password, which the node asks by http."""
    with registry(tmp_path_factory.mktemp("registry"), address=stack.cluster.host_address) as server:
        hosts = stack.cluster.containerd.registries / server.host
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(f'server = "http://{server.host}"\n')
        yield server
