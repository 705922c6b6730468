"""Flux's kustomize-controller beside a control plane, and the sources that it takes manifests from.

A source is an ExternalArtifact, which Flux has for publishers other than its source-controller: an archive on an HTTP
server of the tests.
"""

import functools
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import ControlPlane, kubeconfig
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import eventually
from tests.cluster.processes import Processes, free_ports
from tests.gitops.crds import await_established
from tests.gitops.programs import KUSTOMIZE_CONTROLLER

NAMESPACE = "flux-system"
ACCOUNT = "kustomize-controller"
MODULE = "github.com/fluxcd/kustomize-controller"
CRD = "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml"
KUSTOMIZATIONS = "kustomizations.kustomize.toolkit.fluxcd.io"
SOURCES = {
    "GitRepository": "gitrepositories",
    "OCIRepository": "ocirepositories",
    "Bucket": "buckets",
    "ExternalArtifact": "externalartifacts",
}
GROUP, VERSION = "source.toolkit.fluxcd.io", "v1"
Manifest = dict[str, Any]


@dataclass
class Flux:
    """Applies what its sources hold every few seconds, as a user of its own."""

    control_plane: ControlPlane
    folder: Path
    processes: Processes = field(init=False)
    _server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        self.processes = Processes(self.folder / "log")

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"

    @property
    def kubectl(self) -> Kubectl:
        return self.control_plane.kubectl.within(NAMESPACE)

    def start(self) -> None:
        archives = self.folder / "archives"
        archives.mkdir(parents=True)
        handler = functools.partial(_Quiet, directory=str(archives))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._install()
        metrics, health = free_ports(2)
        environment = {
            "KUBECONFIG": str(self._kubeconfig()),
            "RUNTIME_NAMESPACE": NAMESPACE,
            "TMPDIR": str(self.folder),
        }
        self.processes.start(
            "kustomize-controller",
            [
                KUSTOMIZE_CONTROLLER.built(),
                f"--metrics-addr=127.0.0.1:{metrics}",
                f"--health-addr=127.0.0.1:{health}",
                "--feature-gates=ExternalArtifact=true",
                "--requeue-dependency=2s",
            ],
            inside=["env", *(f"{key}={value}" for key, value in environment.items())],
        )

    def stop(self) -> None:
        self.processes.kill_all()
        self._server.shutdown()
        self._server.server_close()

    def publish(self, name: str, manifests: Mapping[str, Manifest | str]) -> None:
        """Has a source hold these manifests, by file name."""
        archive = _archive(manifests)
        digest = hashlib.sha256(archive).hexdigest()
        (self.folder / "archives" / f"{digest}.tar.gz").write_bytes(archive)
        self.kubectl.apply(_source(name))
        artifact = {
            "path": f"{digest}.tar.gz",
            "url": f"http://127.0.0.1:{self._server.server_port}/{digest}.tar.gz",
            "revision": f"main@sha256:{digest}",
            "digest": f"sha256:{digest}",
            "lastUpdateTime": "2026-01-01T00:00:00Z",
            "size": len(archive),
        }
        patch = json.dumps({"status": {"artifact": artifact}})
        self.kubectl("patch", "externalartifact", name, "--subresource=status", "--type=merge", "-p", patch)

    def kustomize(self, name: str, namespace: str, *depends_on: str, **more: Any) -> None:
        """Applies a Kustomization of the source of its name, which waits for health and prunes."""
        spec = {
            "interval": "5s",
            "retryInterval": "3s",
            "timeout": "60s",
            "prune": True,
            "wait": True,
            "sourceRef": {"kind": "ExternalArtifact", "name": name},
            "targetNamespace": namespace,
            "dependsOn": [{"name": each} for each in depends_on],
            **more,
        }
        api = "kustomize.toolkit.fluxcd.io/v1"
        self.kubectl.apply({"apiVersion": api, "kind": "Kustomization", "metadata": {"name": name}, "spec": spec})

    def ready(self, name: str) -> Manifest:
        """The condition Ready of a Kustomization at its present generation and revision."""
        conditions = self.kubectl.get("kustomization", name).get("status", {}).get("conditions", ())
        return next((dict(each) for each in conditions if each["type"] == "Ready"), {"status": "", "message": ""})

    def reach(self, name: str, status: str, said: str = "", seconds: float = 90) -> None:
        def reached() -> bool:
            ready = self.ready(name)
            return ready["status"] == status and said in ready["message"] and self._is_current(name)

        try:
            eventually(f"Kustomization {name} is Ready={status}", reached, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; {json.dumps(self.kubectl.get('kustomization', name), indent=1)}") from error

    def _is_current(self, name: str) -> bool:
        source = self.kubectl.get("externalartifact", name)["status"]["artifact"]["revision"]
        found = self.kubectl.get("kustomization", name)
        seen = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        return bool(seen and found["status"].get("lastAttemptedRevision") == source)

    def _install(self) -> None:
        admin = self.control_plane.kubectl
        crd = KUSTOMIZE_CONTROLLER.module(MODULE) / CRD
        admin("apply", "--server-side", "--force-conflicts", "-f", str(crd))
        admin.apply(*(_crd(kind, plural) for kind, plural in SOURCES.items()))
        await_established(admin, *(f"{plural}.{GROUP}" for plural in SOURCES.values()), KUSTOMIZATIONS)
        admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"flux-{ACCOUNT}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
            },
        )

    def _kubeconfig(self) -> Path:
        token = self.kubectl("create", "token", ACCOUNT, "--duration=4h").strip()
        cluster = json.loads(self.control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]
        path = self.folder / "kubeconfig"
        path.touch(0o600)
        path.write_text(json.dumps(kubeconfig(cluster, token)))
        return path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _archive(manifests: Mapping[str, Manifest | str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, manifest in manifests.items():
            content = (manifest if isinstance(manifest, str) else json.dumps(manifest)).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _source(name: str) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "ExternalArtifact", "metadata": metadata, "spec": {}}


def _crd(kind: str, plural: str) -> Manifest:
    """A kind of source that Flux watches, with any content: source-controller, which defines them, is not here."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": VERSION, "served": True, "storage": True, "subresources": {"status": {}}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }
