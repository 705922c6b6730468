"""etcd, the API server and the controllers as processes of this machine; needs no root and no Docker.

Any number can run beside each other: ports are free ones, and everything else lies in the given folder.
"""

import base64
import json
import secrets
import ssl
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.binaries import CONTROLLERS, Binaries
from tests.cluster.certificates import Authority
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import Processes, free_ports
from tests.cluster.sandbox import HOST_ADDRESS, POD_CIDR, SERVICE_CIDR

API_SERVICE = "10.124.0.1"
ADVERTISED_ALONE = HOST_ADDRESS
"""The address that the API server gives when it listens on loopback, which it refuses to advertise."""
WRITES = ("create", "update", "patch", "delete", "deletecollection")
COUNTED_USER = "system:serviceaccount:busy-hour:ftm-operator"
"""The user whose every request is audited, to count them."""
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
        {"level": "Metadata", "verbs": list(WRITES)},
        {"level": "Metadata", "users": [COUNTED_USER]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane."""

    kubeconfig: Path
    server: str
    token: str
    """The kubeconfig of a member of system:masters."""
    audit_log: Path
    """One JSON object a line: every write by anyone, every request for Secrets, and all of COUNTED_USER's."""
    controllers: bool
    """False when only etcd and the API server run: nothing fills Deployments, Jobs, or new namespaces."""
    authority: Authority | None = field(default=None, kw_only=True)
    """Signs for nodes of a control plane that is the tests' own."""

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.kubeconfig)

    def audit(self, user: str, *, leases: bool = False) -> list[dict[str, Any]]:
        """Returns a user's writes and questions for Secrets, oldest first: `system:serviceaccount:NAMESPACE:NAME`.

        The writes of Leases, which go on all the time, are told apart. A request that is refused for its
        credentials, such as one with the token of a ServiceAccount that is gone, is nobody's.
        """
        *written, _half_a_line = self.audit_log.read_text().split("\n")
        events = [json.loads(line) for line in written]
        theirs = [event for event in events if event["user"].get("username") == user]
        return [event for event in theirs if (event.get("objectRef", {}).get("resource") == "leases") == leases]

    def quiet(self, user: str, seconds: float = 3) -> int:
        """Waits until a user has written nothing for so long, and returns how many writes there were."""
        before = -1
        while (now := len(self.audit(user))) != before:
            before = now
            time.sleep(seconds)
        return now


class ControlPlaneProcesses:
    """Starts the parts in order; `address` is where the API server listens."""

    def __init__(self, binaries: Binaries, folder: Path, processes: Processes, address: str, node: str = "") -> None:
        self.binaries, self.folder, self.processes, self.address = binaries, folder, processes, address
        self.authority = Authority(folder / "pki")
        self._account_key = self.authority.key("service-account")
        self._node_hosts = [node] if node else []
        self._advertised = address if address != "127.0.0.1" else ADVERTISED_ALONE
        self._token = secrets.token_urlsafe(24)

    def up(self) -> ControlPlane:
        etcd, peer = free_ports(2)
        (port,) = free_ports(1, self.address)
        self._etcd(etcd, peer)
        self._api_server(etcd, port)
        server = f"https://{self.address}:{port}"
        plane = ControlPlane(
            kubeconfig=self._kubeconfig(server),
            server=server,
            token=self._token,
            audit_log=self.folder / "audit.jsonl",
            controllers=self.binaries.has(*CONTROLLERS),
            authority=self.authority,
        )
        self.processes.wait_until("API server ready", lambda: self._ready(server), "kube-apiserver")
        if plane.controllers:
            self._controllers(plane.kubeconfig)
            self.processes.wait_until(
                "default service account made",
                lambda: bool(plane.kubectl("get", "serviceaccount", "default", "--ignore-not-found")),
                "kube-controller-manager",
            )
        return plane

    def _etcd(self, port: int, peer_port: int) -> None:
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        self._start(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )

    def _api_server(self, etcd: int, port: int) -> None:
        hosts = ["localhost", "kubernetes.default.svc", "127.0.0.1", self.address, API_SERVICE]
        serving = self.authority.sign("apiserver", "kube-apiserver", hosts=hosts)
        client = self.authority.sign("apiserver-kubelet-client", "kube-apiserver", "system:masters")
        tokens, policy = self.folder / "tokens.csv", self.folder / "audit-policy.json"
        tokens.touch(0o600)
        tokens.write_text(f"{self._token},admin,admin,system:masters\n")
        policy.write_text(json.dumps(AUDIT_POLICY))
        (self.folder / "audit.jsonl").touch()
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--bind-address={self.address}",
            f"--advertise-address={self._advertised}",
            f"--secure-port={port}",
            f"--cert-dir={self.folder}/pki",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--token-auth-file={tokens}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--kubelet-client-certificate={client.certificate}",
            f"--kubelet-client-key={client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._account_key}",
            f"--service-account-signing-key-file={self._account_key}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.folder}/audit.jsonl",
            "--audit-log-mode=blocking",
        )

    def _controllers(self, kubeconfig: Path) -> None:
        unthrottled = ("--kube-api-qps=500", "--kube-api-burst=1000")
        common = (f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0", *unthrottled)
        self._start(
            "kube-controller-manager",
            *common,
            f"--service-account-private-key-file={self._account_key}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials",
            "--allocate-node-cidrs",
            "--node-cidr-mask-size=24",
            f"--cluster-cidr={POD_CIDR}",
        )
        self._start("kube-scheduler", *common)

    def _start(self, component: str, *flags: str) -> None:
        self.processes.start(component, [*self.binaries.command(component), *flags])

    def _kubeconfig(self, server: str) -> Path:
        authority = base64.b64encode(self.authority.certificate.read_bytes()).decode()
        cluster = {"server": server, "certificate-authority-data": authority}
        path = self.folder / "kubeconfig"
        path.touch(0o600)
        path.write_text(json.dumps(kubeconfig(cluster, self._token), indent=1))
        return path

    def _ready(self, server: str) -> bool:
        trust = ssl.create_default_context(cafile=str(self.authority.certificate))
        request = urllib.request.Request(f"{server}/readyz", headers={"Authorization": f"Bearer {self._token}"})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with opener.open(request, timeout=2) as answer:
            return bool(answer.status == 200)


def kubeconfig(cluster: dict[str, str], token: str, contexts: Sequence[str] = ("test",)) -> dict[str, Any]:
    """A kubeconfig's content: one cluster, one user known by its token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": contexts[0],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": "test", "user": "admin"}} for name in contexts],
    }
