"""All CRDs of the Gateway API and of KEDA, as their modules have them: a controller watches all of its kinds."""

from tests.cluster.go_modules import GATEWAY_API, KEDA, GoModule
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import eventually
from tests.cluster.module_crds import is_established

CRD_FOLDERS: tuple[tuple[GoModule, str, str], ...] = (
    (GATEWAY_API, "config/crd/standard", "gateway.networking.k8s.io_[!v]*.yaml"),
    (KEDA, "config/crd/bases", "*.yaml"),
)


def install_crds(kubectl: Kubectl) -> None:
    """Applies them, and waits until they are served. Raises RuntimeError when a module cannot be had."""
    for module, folder, pattern in CRD_FOLDERS:
        files = sorted((module.folder() / folder).glob(pattern))
        names = [kubectl("apply", "--server-side", "-f", str(file), "-o", "name").split("/", 1)[1] for file in files]
        for name in map(str.strip, names):
            eventually(f"{name} is served", lambda name=name: is_established(kubectl, name))  # type: ignore[misc]
