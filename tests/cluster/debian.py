"""Debian packages that a cluster with a node needs: installs what is missing, as root, and says so."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from tests.cluster.progress import step
from tests.cluster.unavailable import Unavailable

NODE = ("containerd", "runc", "containernetworking-plugins", "iproute2", "iptables", "conntrack", "util-linux")
IMAGES = ("buildah", "skopeo", "debootstrap", "busybox-static")


def ensure(packages: Sequence[str]) -> None:
    """Install the packages of a node that are missing. Raises Unavailable when this is not root on a Debian machine."""
    if os.geteuid() != 0:
        raise Unavailable(
            "a Kubernetes node needs root (namespaces, mounts, containers): run as root to include what needs one"
        )
    _ensure(packages, "a Kubernetes node")


def ensure_programs(programs: Sequence[str], what: str) -> None:
    """Install the packages of these programs that are not on PATH; `what` needs them, which Unavailable says."""
    if missing := [program for program in programs if not shutil.which(program)]:
        if os.geteuid() != 0:
            raise Unavailable(f"{what} needs {', '.join(missing)}: install them, or run as root")
        _ensure(missing, what)


def _ensure(packages: Sequence[str], what: str) -> None:
    if not shutil.which("dpkg-query"):
        raise Unavailable(f"{what} needs {', '.join(packages)}, installed here from Debian's packages only")
    if missing := [package for package in packages if not _installed(package)]:
        with step(f"installing Debian packages {' '.join(missing)}"):
            _install(missing)


def _installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def _install(packages: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "--quiet"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(install)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
