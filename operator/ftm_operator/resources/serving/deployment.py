"""Builds the Deployment that serves a model, whichever engine does.

A rollout starts a new pod before it stops an old one, so what works keeps serving until its successor is ready; where
the GPUs for that are not there, it stops an old one first.
"""

from ftm_operator.api.spec.serving_children import Probes
from ftm_operator.engines import llama_server
from ftm_operator.resources.metadata import Manifest, metadata
from ftm_operator.resources.serving.engine import ServedModel
from ftm_operator.resources.serving.kept_template import inputs_hash, with_memory
from ftm_operator.resources.serving.llama_server import llama_server_container
from ftm_operator.resources.serving.serving_labels import deployment_selector, serving_labels
from ftm_operator.resources.serving.serving_pod import (
    answering,
    hash_of_pods,
    serving_pod,
    serving_template,
)
from ftm_operator.resources.serving.vllm import vllm_container
from ftm_operator.settings import Settings

SURGE: Manifest = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
RECREATE: Manifest = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}


def deployment(
    served: ServedModel, settings: Settings, live: Manifest | None = None, *, surge: bool = True
) -> Manifest:
    """Returns the whole Deployment.

    `live` is the one that it replaces, whose selector it keeps.
    """
    model = served.model
    selector = deployment_selector(model, live)
    child_labels = {**serving_labels(model, served.plan.engine), **selector}
    on_processors = served.plan.engine == llama_server.ENGINE
    engine = llama_server_container(served, settings) if on_processors else vllm_container(served, settings)
    pod = serving_pod(served, settings, answering(engine, model.spec.serving))
    return with_memory(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(model, model.metadata.name, child_labels),
            "spec": {
                **served.replica_fields,
                "selector": {"matchLabels": selector},
                "progressDeadlineSeconds": 2 * (model.spec.serving.probes or Probes()).startup_seconds,
                "strategy": SURGE if surge else RECREATE,
                "template": serving_template(served, child_labels, pod, hash_of_pods(served, pod)),
            },
        },
        inputs_hash(served),
        served.count,
    )


def surges(live: Manifest) -> bool:
    """Tells whether a Deployment or LeaderWorkerSet starts a new pod before it ends an old one."""
    spec = live["spec"]
    strategy = spec.get("strategy") or {}, spec.get("rolloutStrategy") or {}
    ways = strategy[0].get("rollingUpdate") or {}, strategy[1].get("rollingUpdateConfiguration") or {}
    return all(way.get("maxSurge") != 0 for way in ways)
