"""Builds the agent of a serving pod: the native sidecar that makes the engine hold the adapters that are wanted.

It reads them from a ConfigMap that need not be there yet, and is ready while the engine answers for those that were
wanted when it started. It has the artifact store's Secret, and no rights in the cluster.
"""

from ftm_jobs.contract.mounts import ADAPTERS, AGENT_PORT, GUARD, WANTED_ADAPTERS
from ftm_jobs.contract.run_time_adapters import WANTED_FILE
from ftm_operator.api.quantities import quantity
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.engines.conventions import PORT
from ftm_operator.resources.amounts import with_asked
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import SIDECAR, container
from ftm_operator.resources.serving.engine import ServedModel
from ftm_operator.resources.serving.guard import GUARD_MOUNT
from ftm_operator.resources.serving.serving_labels import AGENT
from ftm_operator.resources.serving.wanted_config_map import config_map_name
from ftm_operator.settings import Settings

DISK = "20Gi"
DISK_PERCENT = 90
"""The part of its volume that the agent fills: a pod whose volume is over its limit is evicted."""
ADAPTERS_MOUNT: Manifest = {"name": "ftm-adapters", "mountPath": ADAPTERS}
WANTED_MOUNT: Manifest = {"name": "ftm-wanted-adapters", "mountPath": WANTED_ADAPTERS, "readOnly": True}


def adapter_volumes(model: FineTunedModel) -> list[Manifest]:
    """Returns the volumes of the adapters that are wanted, and of those that were fetched."""
    return [
        {"name": ADAPTERS_MOUNT["name"], "emptyDir": {"sizeLimit": _disk(model)}},
        {"name": WANTED_MOUNT["name"], "configMap": {"name": config_map_name(model.metadata.name), "optional": True}},
    ]


def adapter_agent(served: ServedModel, settings: Settings) -> Manifest:
    """Returns the sidecar's container."""
    model, store = served.model, served.store
    mounts = [ADAPTERS_MOUNT, WANTED_MOUNT, {**GUARD_MOUNT, "readOnly": True}]
    made = container(AGENT, settings.jobs_image, settings, sources=[store], mounts=mounts)
    requests = {"cpu": "50m", "memory": "128Mi"}
    return {
        **made,
        **SIDECAR,
        "args": [
            "adapters",
            *("--wanted", f"{WANTED_ADAPTERS}/{WANTED_FILE}"),
            *("--base-digest", served.facts.base.digest),
            *("--folder", ADAPTERS),
            *("--disk-bytes", str(int(quantity(_disk(model)) * DISK_PERCENT / 100))),
            *(("--artifacts-credentials", store.credentials) if store.secret_name else ()),
            *("--engine", f"http://127.0.0.1:{PORT}"),
            *("--guard", GUARD),
            *("--port", str(AGENT_PORT)),
        ],
        "resources": with_asked(
            {"requests": requests, "limits": {"memory": "1Gi"}}, model.spec.serving.dynamic.resources
        ),
    }


def _disk(model: FineTunedModel) -> str:
    asked = model.spec.serving.dynamic.disk
    return DISK if asked is None else str(asked)
