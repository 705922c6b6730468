"""Clusters as context managers: a control plane alone (no root, any number), or one with a node (root, one at a time).

Everything that was started is gone when the block ends, and equally when the process that holds it is killed.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache
from tests.cluster import binaries, debian
from tests.cluster.catalogue import PAUSE
from tests.cluster.containerd import Containerd, ContainerdPrograms
from tests.cluster.control_plane import ControlPlane, ControlPlaneProcesses
from tests.cluster.images import Image, ImageStore
from tests.cluster.locks import alone
from tests.cluster.node import NAME, Node
from tests.cluster.processes import Processes
from tests.cluster.progress import step
from tests.cluster.sandbox import HOST_ADDRESS


@dataclass(frozen=True)
class NodeCluster(ControlPlane):
    """A control plane with one node that runs pods.

    This machine reaches services by their ClusterIP and pods by their address; pods reach this machine at
    `host_address`, and nothing beyond it. Pods know Services by name, this machine does not.
    """

    containerd: Containerd
    processes: Processes
    node: str = NAME
    host_address: str = HOST_ADDRESS

    def raise_for_dead(self) -> None:
        """Raises Died when a part of the cluster has ended by itself."""
        self.processes.raise_for_dead()

    def fake_gpus(self, count: int, product: str = "NVIDIA-A10G", memory_mib: int = 23028) -> None:
        """Make the scheduler and the kubelet believe in GPUs, labelled as GPU feature discovery labels them."""
        quantity = {"nvidia.com/gpu": str(count)}
        labels = {
            "nvidia.com/gpu.count": str(count),
            "nvidia.com/gpu.memory": str(memory_mib),
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": product,
        }
        patch = json.dumps({"status": {"capacity": quantity, "allocatable": quantity}})
        self.kubectl("patch", "node", self.node, "--subresource=status", "--type=merge", "-p", patch)
        self.kubectl("label", "node", self.node, "--overwrite", *(f"{key}={value}" for key, value in labels.items()))


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """etcd, API server and, where there, the controllers. Raises RuntimeError when they cannot be built."""
    programs = binaries.resolve()
    processes = Processes(folder / "log")
    with ExitStack() as ends:
        ends.callback(processes.kill_all)
        with step("starting a control plane"):
            plane = ControlPlaneProcesses(programs, folder, processes, "127.0.0.1").up()
        yield plane


@contextmanager
def node_cluster(images: Sequence[Image] = (), containerd: ContainerdPrograms | None = None) -> Iterator[NodeCluster]:
    """A cluster whose node has `images`. Raises Unavailable without root.

    Its logs stay until the next one starts, in the cache's node/log.
    """
    prepare(images)
    programs = binaries.resolve(node=True)
    store = ImageStore()
    folder = cache("node")
    with ExitStack() as ends:
        ends.enter_context(alone("node", "another cluster with a node to end: they share image store and addresses"))
        processes = Processes(folder / "log")
        node = Node(programs, folder, processes, containerd)
        node.clean()
        shutil.rmtree(folder, ignore_errors=True)
        ends.callback(_forget, folder)
        ends.callback(processes.kill_all)
        ends.callback(node.down)
        with step("starting a cluster with a node"):
            node.up()
            store.load((PAUSE, *images), node.containerd)
            plane = ControlPlaneProcesses(programs, folder, processes, HOST_ADDRESS)
            running = plane.up()
            node.join(running, plane.authority)
        yield NodeCluster(**vars(running), containerd=node.containerd, processes=processes)


def prepare(images: Sequence[Image] = ()) -> None:
    """Make what a cluster with a node needs and does not exist yet: packages, programs, images. Minutes at first."""
    debian.ensure((*debian.NODE, *debian.IMAGES))
    binaries.resolve(node=True)
    ImageStore().build((PAUSE, *images))


def _forget(folder: Path) -> None:
    """Keep the logs, remove the rest."""
    for path in folder.iterdir():
        if path.name != "log":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
