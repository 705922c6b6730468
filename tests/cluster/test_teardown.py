"""A cluster with a node leaves a machine as it found it, however it ends."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cache import cache
from tests.cluster.catalogue import JOBS
from tests.cluster.cluster import prepare
from tests.cluster.sandbox import CGROUP, HOST_LINK
from tests.cluster.unavailable import Unavailable

HOLDER = """
import sys, time
from tests.cluster.catalogue import JOBS
from tests.cluster.cluster import node_cluster

with node_cluster([JOBS]) as cluster:
    cluster.kubectl("run", "pod", f"--image={JOBS.name}", "--image-pull-policy=Never", "--command", "sleep", "1000")
    cluster.kubectl.wait("pod/pod", "condition=Ready")
    print("ready", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Holder:
    """A process that holds a cluster with a running pod."""

    process: "subprocess.Popen[str]"
    before: set[str]

    def left(self) -> set[str]:
        """Returns what the machine has now and had not before the cluster began."""
        return made_by_clusters() - self.before


@pytest.fixture
def holder() -> Holder:
    try:
        prepare([JOBS])
    except Unavailable as reason:
        pytest.skip(str(reason))
    before = made_by_clusters()
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    held = Holder(process, before)
    assert {found.split()[0] for found in held.left()} == {"process", "device", "group"}
    return held


def test_a_cluster_that_ends_leaves_nothing_behind(holder: Holder) -> None:
    holder.process.communicate()

    assert holder.process.returncode == 0
    assert holder.left() == set()
    assert {path.name for path in cache("node").iterdir()} == {"log"}


def test_a_cluster_whose_process_is_killed_leaves_empty_control_groups_at_most(holder: Holder) -> None:
    holder.process.kill()
    holder.process.communicate()

    eventually(lambda: {left.split()[0] for left in holder.left()} <= {"group"})


def test_a_cluster_starts_after_one_that_was_killed_and_tidies_up_after_both(holder: Holder) -> None:
    holder.process.kill()
    holder.process.communicate()
    done = subprocess.run([sys.executable, "-c", HOLDER], input="", capture_output=True, text=True)

    assert done.stdout == "ready\n", done.stderr
    assert holder.left() == set()


def made_by_clusters() -> set[str]:
    """Processes, mounts, devices and control groups of a kind that clusters with a node make."""
    folder = str(cache("node"))
    processes = [
        f"process {command}" for command in commands() if folder in command or str(cache("containerd")) in command
    ]
    mounts = [
        f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if str(cache()) in line
    ]
    devices = [f"device {path.name}" for path in Path("/sys/class/net").glob(HOST_LINK)]
    top = Path("/sys/fs/cgroup")
    groups = [f"group {path}" for path in (*top.glob(f"{CGROUP}/*/"), *top.glob(f"*/{CGROUP}/*/"))]
    return {*processes, *mounts, *devices, *groups}


def commands() -> list[str]:
    """Command lines of all processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def eventually(check: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)
