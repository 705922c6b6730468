"""The node's own PID, mount and network namespaces: whatever a node does to a machine ends with them.

One process anchors them. When it ends, and it dies with the test process, the kernel kills every process inside
(kubelet, containerd, containers) and with them go all mounts, iptables rules and network devices: a crash leaves
nothing to clean but empty cgroups. The machine reaches pods and services by two routes over a veth pair;
they reach the machine's end of it and nothing beyond.
"""

import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster.processes import Processes

HOST_ADDRESS, NODE_ADDRESS = "10.125.255.1", "10.125.255.2"
HOST_LINK, NODE_LINK = "ftm-host", "eth0"
SERVICE_CIDR, POD_CIDR = "10.124.0.0/16", "10.125.0.0/24"
CGROUP = "k8s.io"
"""The place of the control groups of Kubernetes' containers, unless the kubelet names another place."""
PRIVATE_FOLDERS = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
)
"""Folders that components use whatever they are told: each is empty inside and untouched outside."""
ANCHOR = f"""\
set -e
mkdir -p {" ".join(PRIVATE_FOLDERS)}
for folder in {" ".join(PRIVATE_FOLDERS)}; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo inside
while :; do sleep 3600 & wait $!; done
"""


class Sandbox:
    """Made by `up`; `inside` is the prefix of commands that run in it."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.inside: tuple[str, ...] = ()

    def up(self) -> None:
        unshare = ("unshare", "--pid", "--net", "--mount", "--mount-proc", "--fork", "--kill-child")
        outer = self._processes.start("sandbox", ["sh", "-c", ANCHOR], inside=unshare)
        log = self._processes.log("sandbox")
        self._processes.wait_until("sandbox ready", lambda: "inside" in log.read_text(), "sandbox", 10)
        (pid,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        self.inside = ("nsenter", f"--target={pid}", "--pid", "--net", "--mount", "--")
        ip("link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", pid)
        ip("addr", "add", f"{HOST_ADDRESS}/30", "dev", HOST_LINK)
        ip("link", "set", HOST_LINK, "up")
        self.run("ip", "addr", "add", f"{NODE_ADDRESS}/30", "dev", NODE_LINK)
        self.run("ip", "link", "set", NODE_LINK, "up")
        self.run("ip", "route", "add", SERVICE_CIDR, "via", HOST_ADDRESS)
        for network in (SERVICE_CIDR, POD_CIDR):
            ip("route", "add", network, "via", NODE_ADDRESS)

    def run(self, *command: str) -> None:
        subprocess.run([*self.inside, *command], check=True, capture_output=True)

    def down(self) -> None:
        """End everything inside at once."""
        anchor = self._processes.running.pop("sandbox", None)
        if anchor:
            anchor.kill()
            anchor.wait()


def sweep(tasks: Path) -> None:
    """Remove what is left of a sandbox, of this process or of one that crashed.

    `tasks` is where containerd keeps a folder for each container that it runs: their control groups are ours.
    """
    containers = [path.name for path in tasks.glob("*")]
    top = Path("/sys/fs/cgroup")
    for parent in (*top.glob(CGROUP), *top.glob(f"*/{CGROUP}")):
        for container in containers:
            _remove_control_group(parent / container)
        _remove_control_group(parent)
    deadline = time.monotonic() + 10
    while Path("/sys/class/net", HOST_LINK).exists():
        subprocess.run(["ip", "link", "delete", HOST_LINK], capture_output=True)
        if time.monotonic() > deadline:
            raise RuntimeError(f"the network device {HOST_LINK} cannot be removed")
        time.sleep(0.1)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _remove_control_group(group: Path) -> None:
    """Only an empty one goes: the kernel keeps a group that has processes, or groups of other containers below it."""
    with suppress(OSError):
        group.rmdir()
