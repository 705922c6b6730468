"""kubectl for tests: typed enough to read, and errors that say what was asked. Talks to one cluster only."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.reads import ReadError, reads

Manifest = Mapping[str, Any]


class KubectlError(Exception):
    """kubectl's exit code was not 0; the message is what it printed."""


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl with one kubeconfig, in one namespace unless told otherwise."""

    kubeconfig: Path
    namespace: str = "default"

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 300) -> str:
        """Run kubectl and return its stdout; raises KubectlError with its stderr."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line, for those who start it themselves (port-forward, logs -f)."""
        return [program(), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]

    def within(self, namespace: str) -> "Kubectl":
        return Kubectl(self.kubeconfig, namespace)

    def apply(self, *manifests: Manifest | str) -> str:
        """Server-side apply of objects, or of YAML as it is."""
        return self("apply", "--server-side", "-f", "-", stdin=_documents(manifests))

    def create(self, *manifests: Manifest | str) -> str:
        return self("create", "-f", "-", stdin=_documents(manifests))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Returns an object; raises KubectlError with the API server's words."""
        with _as_kubectl_says():
            return reads(self.kubeconfig).get(kind, name, self.namespace)

    def list(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Returns the objects of one kind, or of several that commas part; `arguments`: -l, --field-selector."""
        flags = {"-l": "labelSelector", "--field-selector": "fieldSelector"}
        query = {flags[flag]: value for flag, value in zip(arguments[::2], arguments[1::2], strict=True)}
        with _as_kubectl_says():
            return reads(self.kubeconfig).list(kind, self.namespace, query)

    def delete(self, kind: str, *names: str) -> str:
        return self("delete", kind, *names, "--ignore-not-found", "--wait")

    def wait(self, target: str, condition: str, seconds: float = 300) -> str:
        """Wait for `condition` (as `kubectl wait --for`) of `target` (kind/name).

        kubectl itself gives up on an object that was just created and has no conditions yet.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self(
                    "wait", target, f"--for={condition}", f"--timeout={seconds:.0f}s", timeout_seconds=seconds + 30
                )
            except KubectlError as error:
                if "accessor error" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def program() -> str:
    """kubectl beside the running Python, else on PATH."""
    beside_python = Path(sys.executable).parent / "kubectl"
    found = str(beside_python) if beside_python.exists() else shutil.which("kubectl")
    if not found:
        raise RuntimeError(f"kubectl is not beside {sys.executable} nor on PATH: run `make venv`")
    return found


@contextmanager
def _as_kubectl_says() -> Iterator[None]:
    try:
        yield
    except ReadError as error:
        raise KubectlError(str(error)) from error


def _documents(manifests: Sequence[Manifest | str]) -> str:
    return "\n---\n".join(one if isinstance(one, str) else json.dumps(one) for one in manifests)
