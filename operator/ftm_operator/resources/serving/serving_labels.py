"""Labels of serving pods, and the selectors that find them.

`app.kubernetes.io/name` tells a pod's engine. A Deployment's selector cannot change, so it holds no engine; where an
earlier version put vLLM's name into it, that Deployment's pods keep the label until the Deployment is made anew.
"""

from collections.abc import Sequence

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.engines import llama_server, vllm
from ftm_operator.resources.metadata import COMPONENT, NAME, STEP, Manifest, belongs_to, labels

SERVE = "serve"
CANARY = "canary"
"""The step of pods of a new version that gets a share of the requests, so that nothing takes them for the others."""
WORKER = "vllm-worker"
"""Names the nodes of a replica that take no requests."""
FETCH = "fetch"
"""Names the container that brings the weights before the engine starts."""
AGENT = "adapters"
"""Names the container that has the engine beside it hold the wanted adapters: a native sidecar in mode Dynamic."""
SERVED_CHECK = "served"
"""Names the container that holds the engine beside it against what was verified: a native sidecar."""


def engine_name(engine: str | None) -> str:
    """Returns the name in Kubernetes of a plan's engine."""
    return llama_server.NAME if engine == llama_server.ENGINE else vllm.NAME


def serving_labels(model: FineTunedModel, engine: str | None) -> dict[str, str]:
    """Returns the labels of what serves with a plan's engine."""
    return labels(model, engine_name(engine), SERVE)


def deployment_selector(model: FineTunedModel, live: Manifest | None) -> dict[str, str]:
    """Returns the selector that the live Deployment has, which cannot change, or that of a new one."""
    if live and belongs_to(live, model):
        kept: dict[str, str] = live["spec"]["selector"]["matchLabels"]
        return kept
    return {STEP: SERVE, NAME: model.metadata.name}


def service_selector(model: FineTunedModel, wanted: str, pods: Sequence[Manifest]) -> dict[str, str]:
    """Returns the labels of the pods that answer: by their engine, or by their step while one engine follows another.

    `wanted` is the name of the pods that are rolled out, `pods` are all that there are of the model.
    """
    names = {wanted, *(_name_of_server(pod) for pod in pods)} - {WORKER, None}
    if len(names) > 1:
        return {STEP: SERVE, NAME: model.metadata.name}
    return {COMPONENT: wanted, NAME: model.metadata.name, STEP: SERVE}


def answers(pod: Manifest) -> bool:
    """Tells whether a serving pod is one that takes requests."""
    return (pod["metadata"].get("labels") or {}).get(COMPONENT) != WORKER


def _name_of_server(pod: Manifest) -> str | None:
    own: dict[str, str] = pod["metadata"].get("labels") or {}
    return own.get(COMPONENT) if own.get(STEP) == SERVE else None
