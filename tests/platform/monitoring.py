"""Has a Prometheus beside the cluster read the serving Pods, with the labels of a PodMonitor, and the gateway.

Debian's Prometheus knows nothing of Kubernetes, so the addresses of the Pods are written for it into a file.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftm_operator.engines.conventions import PORT
from ftm_operator.resources.metadata import MANAGED_BY, MANAGER, STEP
from ftm_operator.resources.serving.serving_labels import CANARY, SERVE
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.platform.traefik import Traefik
from tests.servers.prometheus import prometheus

INTERVAL, LOOK_SECONDS = "2s", 1.0
SERVING = f"{MANAGED_BY}={MANAGER},{STEP} in ({SERVE},{CANARY})"


@contextmanager
def monitored(kubectl: Kubectl, traefik: Traefik, folder: Path, address: str) -> Iterator[str]:
    """Yields the address of a Prometheus that reads the Pods of a namespace. Raises Unavailable."""
    targets, over = folder / "pods.json", threading.Event()
    _write_targets(kubectl, targets)

    def follow() -> None:
        while not over.wait(LOOK_SECONDS):
            _write_targets(kubectl, targets)

    jobs = [
        {"job_name": "models", "file_sd_configs": [{"files": [str(targets)]}]},
        {"job_name": "traefik", "static_configs": [{"targets": [traefik.metrics]}]},
    ]
    follower = threading.Thread(target=follow)
    with prometheus(folder, jobs, address=address, interval=INTERVAL) as url:
        follower.start()
        try:
            yield url
        finally:
            over.set()
            follower.join()


def _write_targets(kubectl: Kubectl, file: Path) -> None:
    """Writes the Pods that have an address; those of before are left where the API server does not answer."""
    try:
        pods = kubectl.list("pods", "-l", SERVING)
    except KubectlError:
        return
    targets = [
        {
            "targets": [f"{pod['status']['podIP']}:{PORT}"],
            "labels": {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]},
        }
        for pod in pods
        if pod["status"].get("podIP")
    ]
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(targets))
    aside.replace(file)
