"""KEDA as the autoscaler of a cluster: its operator as a process beside it, built from its Go module.

Its metrics adapter, which more than one replica takes, does not run: a ScaledObject scales to one, and to zero.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.certificates import Authority
from tests.cluster.cluster import NodeCluster
from tests.cluster.go_programs import GoProgram
from tests.cluster.processes import Processes, free_ports
from tests.servers.health import is_up

PROGRAM = GoProgram(
    "keda-operator",
    Path(__file__).parent / "keda",
    takes="10 to 25 minutes",
    package="github.com/kedacore/keda/v2/cmd/operator",
)
NAMESPACE = "keda"
HERE = "127.0.0.1"


@dataclass
class Keda:
    """KEDA's operator for all namespaces."""

    cluster: NodeCluster
    folder: Path
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.processes = Processes(self.folder / "log")

    def start(self) -> None:
        """Returns once it is ready. Raises RuntimeError when it cannot be built."""
        program = PROGRAM.built()
        self.cluster.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        metrics, health, service = free_ports(3, HERE)
        variables = {
            "KUBECONFIG": self.cluster.kubeconfig,
            "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
            "POD_NAMESPACE": NAMESPACE,
            "WATCH_NAMESPACE": "",
        }
        command = [
            *("env", *(f"{name}={value}" for name, value in variables.items()), program),
            f"--metrics-bind-address={HERE}:{metrics}",
            f"--health-probe-bind-address={HERE}:{health}",
            f"--metrics-service-bind-address={HERE}:{service}",
            f"--cert-dir={self._certificates()}",
        ]
        self.processes.start("keda", [str(each) for each in command])
        self.processes.wait_until("KEDA", lambda: is_up(f"http://{HERE}:{health}/readyz"), "keda")

    def stop(self) -> None:
        self.processes.kill_all()

    def _certificates(self) -> Path:
        folder = self.folder / "certificates"
        pair = Authority(folder).sign("tls", "keda-operator", hosts=["keda-operator.keda.svc"])
        assert (pair.certificate.name, pair.key.name) == ("tls.crt", "tls.key")
        return folder
