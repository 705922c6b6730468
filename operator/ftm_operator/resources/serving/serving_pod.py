"""Builds the pod that fetches a model and serves it, in a Deployment or in a group of a LeaderWorkerSet.

An init container fetches the weights and proves every file, and writes the guard of vLLM's server; an image of the
model is mounted instead, and weights that vLLM streams are left out. In mode Dynamic a sidecar has the engine load
adapters; in mode Merged one holds the engine against what was verified, if asked to. A pod that is to end first leaves
its Service (DRAIN_SECONDS), then finishes what is in flight (SHUTDOWN_SECONDS).
"""

from collections.abc import Mapping

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.mounts import GUARD
from ftm_jobs.contract.steps import Step
from ftm_operator.api.quantities import binary_quantity
from ftm_operator.api.spec.serving_children import Probes
from ftm_operator.api.v1alpha1 import ServingSpec
from ftm_operator.engines import llama_server
from ftm_operator.engines.conventions import DRAIN_SECONDS, MODEL_DIRECTORY, PORT, SHUTDOWN_SECONDS
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.amounts import with_asked
from ftm_operator.resources.image_volume import model_volume, with_pull_secret
from ftm_operator.resources.metadata import ARTIFACT_DIGEST, POD_TEMPLATE, Manifest
from ftm_operator.resources.node_cache import fits, with_folder_owner, with_node_cache
from ftm_operator.resources.pod import (
    TERMINATION_LOG,
    container,
    pod_spec,
    user_metadata,
    with_template,
    with_user_metadata,
)
from ftm_operator.resources.resource_claim import claims_devices, pod_claims
from ftm_operator.resources.serving.adapter_agent import adapter_agent, adapter_volumes
from ftm_operator.resources.serving.engine import MODEL_MOUNT, ServedModel
from ftm_operator.resources.serving.guard import GUARD_MOUNT, GUARD_VOLUME
from ftm_operator.resources.serving.llama_server import adapter_fetches
from ftm_operator.resources.serving.served_check import served_checks
from ftm_operator.resources.serving.serving_labels import FETCH
from ftm_operator.resources.serving.vllm import shared_memory
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument

STARTUP_PERIOD = 5
READINESS: Manifest = {"periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5}
LIVENESS: Manifest = {"periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 10}


def serving_pod(served: ServedModel, settings: Settings, engine: Manifest) -> Manifest:
    """Returns the spec of a pod that fetches the weights and then runs the engine's container on them."""
    model, plan = served.model, served.plan
    volumes, sources = [model_volume(served.weights)], _sources(served)
    if plan.engine != llama_server.ENGINE:
        volumes += [shared_memory(plan), GUARD_VOLUME]
    if served.takes_adapters:
        volumes += adapter_volumes(model)
    before = [
        *_fetches(served, settings),
        *adapter_fetches(served, settings),
        *([adapter_agent(served, settings)] if served.takes_adapters else []),
        *(served_checks(served, settings) if "ports" in engine else []),
    ]
    pod = {
        **pod_spec(settings, model.spec.serving, sources, volumes, plan.node_selector),
        "terminationGracePeriodSeconds": DRAIN_SECONDS + SHUTDOWN_SECONDS + 15,
        **({"initContainers": before} if before else {}),
        "containers": [engine],
        **({"resourceClaims": pod_claims(model, plan)} if claims_devices(plan) else {}),
    }
    cached = with_node_cache(with_pull_secret(pod, model, served.weights), served, settings)
    return with_folder_owner(with_template(cached, model.spec.serving))


def _sources(served: ServedModel) -> list[SourceArgument]:
    """Returns what the pod's containers read: weights that no volume holds, and adapters and figures in the store."""
    weights = [] if served.weights.image else [served.weights.source]
    reads_store = served.takes_adapters or served.reference is not None
    has_store = any(source.role == served.store.role for source in weights)
    return [*weights, *([served.store] if reads_store and not has_store else [])]


def serving_template(served: ServedModel, labels: Mapping[str, str], pod: Manifest, made_from: str) -> Manifest:
    """Returns the template of serving pods, with the hash of what they are made from."""
    annotations = {ARTIFACT_DIGEST: served.weights.digest, POD_TEMPLATE: made_from}
    metadata = with_user_metadata({"labels": dict(labels), "annotations": annotations}, served.model.spec.serving)
    return {"metadata": metadata, "spec": pod}


def hash_of_pods(served: ServedModel, *pods: Manifest) -> str:
    """Returns a hash of what serving pods are made from."""
    users = user_metadata(served.model.spec.serving)
    return short_hash([*pods, served.weights.digest, *([users] if users else [])], 16)


def answering(engine: Manifest, serving: ServingSpec) -> Manifest:
    """Returns the container that takes requests: with its port and its probes."""
    health = {"httpGet": {"path": "/health", "port": "http"}}
    asked = serving.probes or Probes()
    startup = {"periodSeconds": STARTUP_PERIOD, "failureThreshold": -(-asked.startup_seconds // STARTUP_PERIOD)}
    return {
        **engine,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": {**health, **startup, "timeoutSeconds": 5},
        "readinessProbe": {**health, **READINESS, **asked.readiness.to_json()},
        "livenessProbe": {**health, **LIVENESS, **asked.liveness.to_json()},
    }


def _fetches(served: ServedModel, settings: Settings) -> list[Manifest]:
    """Returns the container that fetches; none where an image holds all that the engine reads."""
    if served.weights.image is None:
        return [_fetch(served, settings)]
    return [_guard(served, settings)] if served.plan.engine != llama_server.ENGINE else []


def _guard(served: ServedModel, settings: Settings) -> Manifest:
    """Returns the fetch container of a model that is mounted, which has the guard alone to write."""
    fetch = served.model.spec.serving.fetch
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    return {
        **container("fetch", settings.jobs_image, settings, mounts=[GUARD_MOUNT]),
        "args": [Step.FETCH, "--guard", GUARD, "--report", TERMINATION_LOG],
        "resources": with_asked(resources, fetch.resources if fetch else None),
    }


def _fetch(served: ServedModel, settings: Settings) -> Manifest:
    fetch, weights, mounts = served.model.spec.serving.fetch, served.weights, [MODEL_MOUNT]
    arguments = [weights.flag, weights.source.argument(), "--to", MODEL_DIRECTORY]
    if weights.streamed:
        arguments += ["--without-weights"]
    if served.plan.engine != llama_server.ENGINE:
        arguments += ["--guard", GUARD]
        mounts += [GUARD_MOUNT]
    requests = {
        "cpu": "100m",
        "memory": "256Mi",
        "ephemeral-storage": binary_quantity(GIB + (0 if weights.streamed or fits(served) else weights.total_bytes)),
    }
    return {
        **container(FETCH, settings.jobs_image, settings, sources=[weights.source], mounts=mounts),
        "args": [Step.FETCH, *arguments, "--report", TERMINATION_LOG],
        "resources": with_asked(
            {"requests": requests, "limits": {"memory": "1Gi"}}, fetch.resources if fetch else None
        ),
    }
