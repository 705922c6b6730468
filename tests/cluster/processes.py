"""Starts a cluster's processes, watches them and stops them. Each dies with the thread that started it.

Knows nothing of Kubernetes.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
STOP_SECONDS = 15.0


class Died(Exception):
    """A process of the cluster ended or never answered; the message ends with the last lines of its log."""


@dataclass
class Processes:
    """Named processes, one log file each in `logs`."""

    logs: Path
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str | Path], inside: Sequence[str] = ()) -> int:
        """Start a process and return its pid; `inside` is a command that enters namespaces and then runs it."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                [*DIES_WITH_US, *inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.running[name].pid

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def wait_until(self, what: str, check: Callable[[], bool], process: str, seconds: float = 300) -> None:
        """Wait for `what`, which `process` is to bring about; a process that dies meanwhile ends the wait."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.raise_for_dead()
            with suppress(OSError):
                if check():
                    return
            time.sleep(0.1)
        raise Died(f"{what}: not within {seconds:.0f} s\n{self._tail(process)}")

    def raise_for_dead(self) -> None:
        for name, process in self.running.items():
            if process.poll() is not None:
                raise Died(f"{name} exited with {process.returncode}\n{self._tail(name)}")

    def stop(self, name: str) -> None:
        """Ask a process to end, and end it when it does not."""
        process = self.running.pop(name, None)
        if process is None:
            return
        for pid in _entered(process.pid) or [process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_all(self) -> None:
        """End everything at once, without a chance to tidy up: for what is thrown away as a whole."""
        for process in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        self.running.clear()

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f"the end of {self.log(name)}:", *lines])


def _entered(pid: int) -> list[int]:
    """Returns the process that nsenter or unshare runs for us: they stay as its parent and pass no signal on."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() in ("nsenter", "unshare"):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Free ports, all different since each is held until the last is found."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.create_server((address, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
