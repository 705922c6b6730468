"""Builds the ConfigMap of a namespace's measurements, which nobody owns: it outlives the models."""

from ftm_operator.planning.feedback.measurements import Measurements, written
from ftm_operator.resources.metadata import COMPONENT, MANAGED_BY, MANAGER, Manifest

CONFIG_MAP = "ftm-measurements"


def config_map(namespace: str, measurements: Measurements) -> Manifest:
    """Returns the whole ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CONFIG_MAP,
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER, COMPONENT: "measurements"},
        },
        "data": written(measurements),
    }
