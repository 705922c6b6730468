"""A cluster that is there already, for API tests: KUBECONFIG names it, FTM_TEST_CLUSTER=existing says it is meant."""

import json
import os
from pathlib import Path

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl

VARIABLE = "FTM_TEST_CLUSTER"


def chosen() -> bool:
    """KUBECONFIG alone is not enough: tests write to the cluster that they are given."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "existing"):
        raise RuntimeError(f"{VARIABLE}={value} is not known: set it to `existing`, or not at all")
    return value == "existing"


def control_plane() -> ControlPlane:
    """The cluster of KUBECONFIG's current context; its writes are not seen (`audit_log` is empty)."""
    kubeconfig = Path(os.environ.get("KUBECONFIG", ""))
    if not kubeconfig.is_file():
        raise RuntimeError(f"{VARIABLE}=existing needs KUBECONFIG to name a file, not {str(kubeconfig)!r}")
    shown = json.loads(Kubectl(kubeconfig)("config", "view", "--minify", "--raw", "-o", "json"))
    return ControlPlane(
        kubeconfig=kubeconfig,
        server=shown["clusters"][0]["cluster"]["server"],
        token=shown["users"][0]["user"].get("token", ""),
        audit_log=Path(os.devnull),
        controllers=True,
    )
