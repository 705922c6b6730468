"""Argo CD beside a control plane: its application controller and repo-server as processes, without UI or API server."""

import base64
import json
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import debian, helm
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import eventually
from tests.cluster.processes import Processes, free_ports
from tests.gitops.crds import await_established
from tests.gitops.programs import ARGOCD
from tests.unit.operator.argocd import SCRIPTS

NAMESPACE = "argocd"
ACCOUNT = "argocd-application-controller"
MODULE = "github.com/argoproj/argo-cd/v3"
CRDS = ("application-crd.yaml", "applicationset-crd.yaml", "appproject-crd.yaml")
HEALTH_KEYS = "resource.customizations.health.ftm.dev"
Manifest = dict[str, Any]


def _named(kind: str, name: str, api: str = "v1", **content: Any) -> Manifest:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}


@dataclass
class ArgoCD:
    """Looks at its git repositories every few seconds; writes to the cluster as a user of its own."""

    control_plane: ControlPlane
    folder: Path
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.processes = Processes(self.folder / "log")

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"

    @property
    def kubectl(self) -> Kubectl:
        return self.control_plane.kubectl.within(NAMESPACE)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._install()
        redis, repository, *metrics = free_ports(4)
        store = f"--redis=127.0.0.1:{redis}"
        log = ("--logformat=text", "--loglevel=info")
        self.processes.start("redis", ["redis-server", f"--port {redis}", "--bind 127.0.0.1", "--save ''"])
        listen = ("--disable-tls", "--address=127.0.0.1", f"--port={repository}", f"--metrics-port={metrics[0]}")
        fresh = "--revision-cache-expiration=1s"
        self._component("repo-server", *listen, fresh, store, *log)
        self.processes.wait_until("repo-server", lambda: _listens(repository), "repo-server")
        self._component(
            "application-controller",
            "--repo-server-plaintext",
            f"--repo-server=127.0.0.1:{repository}",
            f"--metrics-port={metrics[1]}",
            "--app-resync=3",
            "--app-resync-jitter=0",
            "--persist-resource-health",
            f"--kubeconfig={self.control_plane.kubeconfig}",
            f"--namespace={NAMESPACE}",
            store,
            *log,
        )

    def stop(self) -> None:
        self.processes.kill_all()

    def sync(
        self, name: str, namespace: str, sources: Sequence[Manifest], compare: str = "", options: Sequence[str] = ()
    ) -> None:
        """Applies an Application that prunes and heals itself, and whose deletion deletes what it made."""
        application = _named("Application", name, "argoproj.io/v1alpha1")
        application["metadata"] |= {
            "finalizers": ["resources-finalizer.argocd.argoproj.io"],
            "annotations": {"argocd.argoproj.io/compare-options": compare},
        }
        application["spec"] = {
            "project": "default",
            "destination": {"server": self.control_plane.server, "namespace": namespace},
            "sources": list(sources),
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": ["CreateNamespace=true", *options],
                "retry": {"limit": 1, "backoff": {"duration": "2s"}},
            },
        }
        self.kubectl.apply(application)

    def application(self, name: str) -> Manifest:
        return self.kubectl.get("application", name)

    def state(self, name: str) -> tuple[str, str]:
        """Whether an Application is as git says, and its health: Synced, Healthy."""
        status = self.application(name).get("status", {})
        return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")

    def reach(self, name: str, *state: str, seconds: float = 90) -> None:
        try:
            eventually(f"{name} is {state}", lambda: self.state(name) == state, seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; it is {json.dumps(self.application(name).get('status'), indent=1)}"
            ) from error

    def health_of(self, name: str, kind: str) -> Mapping[str, str]:
        """The health of an Application's only resource of a kind."""
        resources = self.application(name).get("status", {}).get("resources", ())
        return next((each.get("health", {}) for each in resources if each["kind"] == kind), {})

    def operations(self, name: str) -> tuple[int, str]:
        """How often an Application was synced, and when the last operation on it began."""
        status = self.application(name)["status"]
        return len(status["history"]), status["operationState"]["startedAt"]

    def said(self, name: str) -> str:
        """What Argo CD says of an Application's last operation, and of its comparison with git."""
        status = self.application(name).get("status", {})
        operation = status.get("operationState", {})
        results = [each.get("message", "") for each in operation.get("syncResult", {}).get("resources", ())]
        conditions = [each["message"] for each in status.get("conditions", ())]
        return "; ".join([operation.get("message", ""), *results, *conditions])

    def _component(self, name: str, *flags: str) -> None:
        environment = {
            "PATH": f"{helm.binary().parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_K8S_CLIENT_QPS": "500",
            "ARGOCD_K8S_CLIENT_BURST": "1000",
        }
        variables = [f"{key}={value}" for key, value in environment.items()]
        self.processes.start(name, [ARGOCD.built(), name, *flags], inside=["env", *variables])

    def _install(self) -> None:
        debian.ensure_programs(("redis-server", "git"), "Argo CD")
        crds = ARGOCD.module(MODULE) / "manifests" / "crds"
        admin = self.control_plane.kubectl
        admin("apply", "--server-side", "--force-conflicts", *(f"--filename={crds / file}" for file in CRDS))
        await_established(admin, "applications.argoproj.io", "appprojects.argoproj.io")
        admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        part = {"app.kubernetes.io/part-of": "argocd"}
        for kind, name in (("ConfigMap", "argocd-cm"), ("ConfigMap", "argocd-rbac-cm")):
            made = _named(kind, name)
            made["metadata"]["labels"] = part
            self.kubectl.apply(made)
        self.kubectl.apply(
            _named("Secret", "argocd-secret", stringData={"server.secretkey": "only-for-tests"}),
            _named("ServiceAccount", ACCOUNT),
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": ACCOUNT},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
            },
            _named(
                "AppProject",
                "default",
                "argoproj.io/v1alpha1",
                spec={
                    "sourceRepos": ["*"],
                    "destinations": [{"namespace": "*", "server": "*"}],
                    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
                },
            ),
        )
        self._know_the_cluster()
        self.teach_health()

    def teach_health(self) -> None:
        """As docs/reference/gitops.md says it."""
        scripts = [f"--from-file={HEALTH_KEYS}_{kind}={script}" for kind, script in SCRIPTS.items()]
        shown = self.kubectl("create", "configmap", "argocd-cm", *scripts, "--dry-run=client", "-o", "yaml")
        self.kubectl("apply", "--server-side", "--field-manager=ftm-operator", "-f", "-", stdin=shown)

    def _know_the_cluster(self) -> None:
        token = self.kubectl("create", "token", ACCOUNT, "--duration=4h").strip()
        authority = json.loads(self.control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]
        trust = authority.get("certificate-authority-data", base64.b64encode(b"").decode())
        connection = json.dumps({"bearerToken": token, "tlsClientConfig": {"caData": trust}})
        data = {"name": "test", "server": self.control_plane.server, "config": connection}
        secret = _named("Secret", "cluster-test", stringData=data)
        secret["metadata"]["labels"] = {"argocd.argoproj.io/secret-type": "cluster"}
        self.kubectl.apply(secret)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
