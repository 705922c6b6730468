"""A Kubernetes node on this machine, in a sandbox of its own: containerd, kubelet, kube-proxy, DNS. Needs root."""

import json
import sys
from pathlib import Path

from tests.cluster import dns
from tests.cluster.binaries import Binaries
from tests.cluster.certificates import Authority
from tests.cluster.containerd import Containerd, ContainerdPrograms
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import Processes
from tests.cluster.sandbox import NODE_ADDRESS, POD_CIDR, Sandbox, sweep

NAME = "node-0"
ROOT = Path(__file__).parents[2]


class Node:
    """Its containerd runs before its kubelet, so that images are there before pods are."""

    def __init__(
        self, binaries: Binaries, folder: Path, processes: Processes, containerd: ContainerdPrograms | None = None
    ) -> None:
        self._binaries, self._folder, self._processes = binaries, folder, processes
        self._sandbox = Sandbox(processes)
        self.containerd = Containerd(folder, processes, self._sandbox, containerd)

    def clean(self) -> None:
        """Remove what an earlier node left whose process was killed, and what this one leaves."""
        sweep(self.containerd.tasks)

    def up(self) -> None:
        self._sandbox.up()
        self.containerd.up()

    def join(self, plane: ControlPlane, authority: Authority) -> None:
        """Start kubelet, kube-proxy and cluster DNS, and wait until the node is Ready."""
        serving = authority.sign("kubelet", f"system:node:{NAME}", "system:nodes", hosts=[NAME, NODE_ADDRESS])
        configuration = self._folder / "kubelet.json"
        configuration.write_text(
            json.dumps(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "kind": "KubeletConfiguration",
                    "authentication": {
                        "anonymous": {"enabled": False},
                        "webhook": {"enabled": True},
                        "x509": {"clientCAFile": str(authority.certificate)},
                    },
                    "tlsCertFile": str(serving.certificate),
                    "tlsPrivateKeyFile": str(serving.key),
                    "containerRuntimeEndpoint": f"unix://{self.containerd.socket}",
                    "podLogsDir": str(self._folder / "log" / "pods"),
                    "resolvConf": "",
                    "clusterDNS": [NODE_ADDRESS],
                    "clusterDomain": dns.DOMAIN,
                    "cgroupDriver": "cgroupfs",
                    "cgroupsPerQOS": False,
                    "enforceNodeAllocatable": [],
                    "failCgroupV1": False,
                    "failSwapOn": False,
                    "imageGCHighThresholdPercent": 100,
                    "evictionHard": {"nodefs.available": "1Gi"},
                }
            )
        )
        kubeconfig = f"--kubeconfig={plane.kubeconfig}"
        self._start(
            "kubelet",
            kubeconfig,
            f"--config={configuration}",
            f"--root-dir={self._folder}/kubelet",
            f"--hostname-override={NAME}",
            f"--node-ip={NODE_ADDRESS}",
        )
        self._start(
            "kube-proxy",
            kubeconfig,
            f"--cluster-cidr={POD_CIDR}",
            f"--hostname-override={NAME}",
            f"--bind-address={NODE_ADDRESS}",
            "--conntrack-max-per-core=0",
        )
        server = [sys.executable, "-m", dns.__name__, NODE_ADDRESS, str(plane.kubeconfig)]
        self._processes.start("dns", ["env", f"--chdir={ROOT}", *server], inside=self._sandbox.inside)
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        self._processes.wait_until(
            "node ready",
            lambda: plane.kubectl("get", "node", NAME, "--ignore-not-found", "-o", ready) == "True",
            "kubelet",
        )

    def down(self) -> None:
        self._processes.stop("kubelet")
        self.containerd.down()
        self._sandbox.down()
        self.clean()

    def _start(self, component: str, *flags: str) -> None:
        self._processes.start(component, [*self._binaries.command(component), *flags], inside=self._sandbox.inside)
