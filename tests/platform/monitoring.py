"""Has a Prometheus beside the cluster read the serving Pods, with the labels of a PodMonitor, and the gateway."""

from pathlib import Path
from typing import Any

from ftm_operator.resources.metadata import MANAGED_BY, MANAGER, STEP
from ftm_operator.resources.serving.serving_labels import CANARY, SERVE
from tests.platform.traefik import Traefik

PORT = "http"
"""The name of the engine's port."""


def scrape_configs(traefik: Traefik, namespace: str, kubeconfig: Path) -> list[dict[str, Any]]:
    """Returns the jobs of a Prometheus: the Pods that serve or are a Canary's, and Traefik."""
    pods: dict[str, Any] = {
        "job_name": "models",
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": str(kubeconfig), "namespaces": {"names": [namespace]}}
        ],
        "relabel_configs": [
            _keep(_label(MANAGED_BY), MANAGER),
            _keep(_label(STEP), f"{SERVE}|{CANARY}"),
            _keep("__meta_kubernetes_pod_container_port_name", PORT),
            _named("__meta_kubernetes_namespace", "namespace"),
            _named("__meta_kubernetes_pod_name", "pod"),
        ],
    }
    return [pods, {"job_name": "traefik", "static_configs": [{"targets": [traefik.metrics]}]}]


def _label(name: str) -> str:
    return "__meta_kubernetes_pod_label_" + "".join(each if each.isalnum() else "_" for each in name)


def _keep(source: str, pattern: str) -> dict[str, Any]:
    return {"source_labels": [source], "regex": pattern, "action": "keep"}


def _named(source: str, label: str) -> dict[str, Any]:
    return {"source_labels": [source], "target_label": label}
