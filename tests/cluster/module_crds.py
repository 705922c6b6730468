"""CRDs as their Go modules have them, kept in the cache. No controller comes with them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache
from tests.cluster.go_modules import GATEWAY_API, KEDA, LEADER_WORKER_SET, GoModule
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import eventually
from tests.cluster.locks import alone
from tests.cluster.progress import step


@dataclass(frozen=True)
class ModuleCrd:
    """One CRD of a module."""

    name: str
    """The CRD's own name: plural and group."""
    module: GoModule
    file: str
    """Its path in the module."""

    def path(self) -> Path:
        """Fetched on first use. Raises RuntimeError when it cannot be had, or is not what was pinned."""
        version = self.module.version
        kept = cache("crds", f"{self.name}-{version}.yaml")
        if kept.exists():
            return kept
        with alone("crds", "another download to end"), step(f"fetching {self.module.path} {version}"):
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                aside = kept.with_suffix(f".{os.getpid()}")
                shutil.copyfile(self.module.folder() / self.file, aside)
                aside.replace(kept)
        return kept

    @contextmanager
    def installed(self, kubectl: Kubectl) -> Iterator[None]:
        """The CRD is served meanwhile."""
        kubectl("apply", "--server-side", "-f", str(self.path()))
        try:
            eventually(f"{self.name} is served", lambda: is_established(kubectl, self.name))
            yield
        finally:
            kubectl.delete("crd", self.name)


def is_established(kubectl: Kubectl, name: str) -> bool:
    conditions = kubectl.get("crd", name)["status"].get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


LEADER_WORKER_SETS = ModuleCrd(
    "leaderworkersets.leaderworkerset.x-k8s.io",
    LEADER_WORKER_SET,
    "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
)
SCALED_OBJECTS = ModuleCrd("scaledobjects.keda.sh", KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml")
HTTP_ROUTES = ModuleCrd(
    "httproutes.gateway.networking.k8s.io",
    GATEWAY_API,
    "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
)
