"""containerd with an image store that outlives clusters, so that an image is imported once and not once a cluster.

Runs inside the node's sandbox; only one at a time, which tests/cluster/cluster.py sees to.
"""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.cache import cache
from tests.cluster.processes import Processes
from tests.cluster.sandbox import POD_CIDR, Sandbox

PAUSE_IMAGE = "localhost/pause:test"
PLUGINS = Path("/usr/lib/cni")


@dataclass(frozen=True)
class ContainerdPrograms:
    """Which containerd a node runs, and where it keeps images."""

    folder: Path | None = None
    """Holds containerd, its shim and ctr; None: Debian's."""
    images: str = "containerd"
    """The folder of the user's cache that holds the images."""

    def command(self, program: str) -> tuple[str, ...]:
        """Returns the program, with the others beside it first on PATH: containerd starts its shim by name."""
        return (program,) if self.folder is None else ("env", f"PATH={self.folder}:{os.environ['PATH']}", program)


class Containerd:
    """The container runtime of one node, whose folder is `folder`.

    A folder of `registries`, named by host, may hold a hosts.toml that says how containerd asks that registry.
    """

    def __init__(
        self, folder: Path, processes: Processes, sandbox: Sandbox, programs: ContainerdPrograms | None = None
    ) -> None:
        self._folder, self._processes, self._sandbox = folder, processes, sandbox
        self._programs = programs or ContainerdPrograms()
        self.registries = folder / "registries"
        self.socket = folder / "containerd.sock"
        self.tasks = folder / "containerd/io.containerd.runtime.v2.task/k8s.io"

    def up(self) -> None:
        self._configure()
        self._start()
        if self._ids("container"):
            self.remove_containers()
            self._processes.stop("containerd")
            self._start()

    def down(self) -> None:
        """Remove all containers, keep all images."""
        if "containerd" in self._processes.running:
            self.remove_containers()
            self._processes.stop("containerd")

    def images(self) -> dict[str, str]:
        """Manifest digest by image name."""
        rows = [line.split() for line in self.ctr("images", "list").splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    def import_archive(self, write: Callable[[IO[bytes]], None]) -> None:
        """Import the OCI archive that `write` writes; what the store already holds need not be in it."""
        command = self._command(["images", "import", "-"])
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as ctr:
            assert ctr.stdin
            assert ctr.stderr
            with suppress(BrokenPipeError), ctr.stdin:
                write(ctr.stdin)
            error = ctr.stderr.read().decode()
        if ctr.returncode:
            raise RuntimeError(f"ctr images import: {error.strip()}")

    def remove_images(self, names: Sequence[str]) -> None:
        """Forget images, and what only they hold: containerd keeps each by its digest too, also when it is replaced."""
        if names:
            self.ctr("images", "remove", *names)

    def ctr(self, *arguments: str) -> str:
        done = self._ctr(arguments)
        if done.returncode:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def remove_containers(self) -> None:
        """Those of an earlier run too: containerd remembers them with its images."""
        for task in self._ids("task"):
            self._ctr(["task", "kill", "--signal", "SIGKILL", task])
        for container in self._ids("container"):
            self._ctr(["task", "delete", "--force", container])
            self._ctr(["container", "delete", container])

    def _start(self) -> None:
        command = [*self._programs.command("containerd"), "--config", f"{self._folder}/containerd.toml"]
        self._processes.start("containerd", command, inside=self._sandbox.inside)
        self._processes.wait_until("containerd ready", lambda: not self._ctr(["version"]).returncode, "containerd")

    def _ids(self, kind: str) -> list[str]:
        return self._ctr([kind, "list", "--quiet"]).stdout.split()

    def _ctr(self, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self._command(arguments), capture_output=True, text=True)

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [*self._programs.command("ctr"), "--address", str(self.socket), "--namespace", "k8s.io", *arguments]

    def _configure(self) -> None:
        networks = self._folder / "cni"
        networks.mkdir(parents=True, exist_ok=True)
        (networks / "10-pods.conflist").write_text(json.dumps(self._network()))
        (self._folder / "containerd.toml").write_text(f"""\
version = 2
root = "{cache(self._programs.images)}"
state = "{self._folder}/containerd"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true  # where CAP_SYS_RESOURCE is dropped, runc fails without it
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{self.registries}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{networks}"
""")

    def _network(self) -> dict[str, object]:
        """Point to point links: every packet is routed, so kube-proxy sees those between pods as well."""
        addresses = {
            "type": "host-local",
            "dataDir": f"{self._folder}/addresses",
            "ranges": [[{"subnet": POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": True, "ipam": addresses}]}
