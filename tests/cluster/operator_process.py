"""The operator as a process beside a control plane, as its own service account with the chart's permissions."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.helm import helm
from tests.cluster.kubectl import Kubectl

CHART = Path(__file__).parents[2] / "charts" / "ftm-operator"
RELEASE = "ftm-operator"
PERMISSIONS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
READY_SECONDS, STOP_SECONDS = 300, 120


@dataclass
class OperatorProcess:
    """Watches one namespace, lists everything anew every two seconds, and can be killed and started again."""

    control_plane: ControlPlane
    namespace: str
    folder: Path
    resync_seconds: float = 2.0
    environment: dict[str, str] = field(default_factory=dict)
    """Settings beside those that every test has."""
    pod: str = "operator-0"
    _process: "subprocess.Popen[bytes] | None" = None
    _port: int = 0
    _token: str = field(default="", repr=False)

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{RELEASE}"

    @property
    def log(self) -> str:
        return (self.folder / "operator.log").read_text()

    def permit(self) -> None:
        """Gives the service account what the chart gives it, and takes its token."""
        rendered = helm("template", RELEASE, str(CHART), "--namespace", self.namespace)
        wanted = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] in PERMISSIONS]
        kubectl = self.control_plane.kubectl.within(self.namespace)
        kubectl.apply(*wanted)
        self.authenticate()

    def authenticate(self) -> None:
        """Takes a token of the service account, which is there."""
        kubectl = self.control_plane.kubectl.within(self.namespace)
        self._token = kubectl("create", "token", RELEASE).strip()

    def start(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
        with (self.folder / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ftm_operator"],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment()},
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while self.health() != 200:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def kill(self) -> None:
        """As if the power failed: no clean-up."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """As the kubelet stops it; returns the exit code."""
        assert self._process
        self._process.terminate()
        return self._process.wait(STOP_SECONDS)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def health(self) -> int:
        """The status of GET /healthz; 0 when nothing answers."""
        return self.probe("/healthz")[0]

    def probe(self, path: str) -> tuple[int, str]:
        """The status and the body of a GET; 0 when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=2) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def _environment(self) -> dict[str, str]:
        config = json.loads(self.control_plane.kubeconfig.read_text())
        config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": self._token}}]
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        return {
            "KUBECONFIG": str(kubeconfig),
            "FTM_NAMESPACES": self.namespace,
            "FTM_JOBS_IMAGE": "jobs:test",
            "FTM_MERGE_IMAGE": "merge:test",
            "FTM_VLLM_IMAGE": "vllm:test",
            "FTM_GGUF_IMAGE": "gguf:test",
            "FTM_AWQ_IMAGE": "awq:test",
            "FTM_COMPRESSOR_IMAGE": "compressor:test",
            "FTM_LLAMA_CPP_IMAGE": "llama-cpp:test",
            "FTM_RESYNC_SECONDS": str(self.resync_seconds),
            "FTM_HEALTH_PORT": str(self._port),
            "FTM_LOG_FORMAT": "text",
            "FTM_OBSERVE_ACCELERATORS": "true",
            "FTM_INSTALLATION": f"{self.namespace}/{RELEASE}",
            "FTM_POD_NAME": self.pod,
            **self.environment,
        }


def prepared(control_plane: ControlPlane, *namespaces: str) -> Kubectl:
    """Applies the CRD and makes namespaces, and returns the administrator's kubectl.

    Skips where nothing fills Jobs and Deployments.
    """
    if not control_plane.controllers:
        pytest.skip("the Job and Deployment controllers do not run on this control plane")
    admin = control_plane.kubectl
    admin("apply", "--server-side", "--force-conflicts", "-f", "crds")
    for name in ("finetunedmodels", "finetunedadapters"):
        admin.wait(f"crd/{name}.ftm.dev", "condition=Established")
    admin.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces))
    return admin


@contextmanager
def operator_process(
    control_plane: ControlPlane, namespace: str, folder: Path, resync_seconds: float = 2.0
) -> Iterator[OperatorProcess]:
    """An operator that may watch this namespace, which is made and then removed; the caller starts it.

    Skips where nothing fills Jobs and Deployments.
    """
    admin = prepared(control_plane, namespace)
    process = OperatorProcess(control_plane, namespace, folder, resync_seconds)
    process.permit()
    try:
        yield process
    finally:
        if process.running():
            process.kill()
        admin("delete", "namespace", namespace, "--wait=false")
