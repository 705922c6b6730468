"""Builds the pod that fetches an artifact and serves it, in a Deployment or in a group of a LeaderWorkerSet.

An init container fetches the artifact and proves every file's sha256. On shutdown the pod first leaves its Service
(DRAIN_SECONDS), then the engine finishes what is in flight (SHUTDOWN_SECONDS).
"""

from collections.abc import Mapping

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.steps import Step
from ftm_operator.api.quantities import binary_quantity
from ftm_operator.api.spec.serving_children import Probes
from ftm_operator.api.v1alpha1 import ServingSpec
from ftm_operator.engines import llama_server
from ftm_operator.engines.conventions import MODEL_DIRECTORY, PORT, SHUTDOWN_SECONDS
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.amounts import with_asked
from ftm_operator.resources.metadata import ARTIFACT_DIGEST, POD_TEMPLATE, Manifest
from ftm_operator.resources.pod import (
    TERMINATION_LOG,
    container,
    pod_spec,
    user_metadata,
    with_template,
    with_user_metadata,
)
from ftm_operator.resources.resource_claim import claims_devices, pod_claims
from ftm_operator.resources.serving.engine import MODEL_MOUNT, MODEL_VOLUME, ServedModel
from ftm_operator.resources.serving.vllm import shared_memory
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument

DRAIN_SECONDS = 15
STARTUP_PERIOD = 5
READINESS: Manifest = {"periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5}
LIVENESS: Manifest = {"periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 10}


def serving_pod(served: ServedModel, settings: Settings, engine: Manifest) -> Manifest:
    """Returns the spec of a pod that fetches the artifact and then runs the engine's container on it."""
    model, plan, artifact = served.model, served.plan, served.artifact
    source = SourceArgument("artifacts", artifact.uri, served.secret_name, artifact.digest)
    volumes = [MODEL_VOLUME, *([] if plan.engine == llama_server.ENGINE else [shared_memory(plan)])]
    pod = {
        **pod_spec(settings, model.spec.serving, [source], volumes, plan.node_selector),
        "terminationGracePeriodSeconds": DRAIN_SECONDS + SHUTDOWN_SECONDS + 15,
        "initContainers": [_fetch(source, served, settings)],
        "containers": [engine],
        **({"resourceClaims": pod_claims(model, plan)} if claims_devices(plan) else {}),
    }
    return with_template(pod, model.spec.serving)


def serving_template(served: ServedModel, labels: Mapping[str, str], pod: Manifest, made_from: str) -> Manifest:
    """Returns the template of serving pods, with the hash of what they are made from."""
    annotations = {ARTIFACT_DIGEST: served.artifact.digest, POD_TEMPLATE: made_from}
    metadata = with_user_metadata({"labels": dict(labels), "annotations": annotations}, served.model.spec.serving)
    return {"metadata": metadata, "spec": pod}


def hash_of_pods(served: ServedModel, *pods: Manifest) -> str:
    """Returns a hash of what serving pods are made from."""
    users = user_metadata(served.model.spec.serving)
    return short_hash([*pods, served.artifact.digest, *([users] if users else [])], 16)


def answering(engine: Manifest, serving: ServingSpec) -> Manifest:
    """Returns the container that takes requests: with its port, its probes, and a pause before it is stopped."""
    health = {"httpGet": {"path": "/health", "port": "http"}}
    asked = serving.probes or Probes()
    startup = {"periodSeconds": STARTUP_PERIOD, "failureThreshold": -(-asked.startup_seconds // STARTUP_PERIOD)}
    return {
        **engine,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": {**health, **startup, "timeoutSeconds": 5},
        "readinessProbe": {**health, **READINESS, **asked.readiness.to_json()},
        "livenessProbe": {**health, **LIVENESS, **asked.liveness.to_json()},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
    }


def _fetch(source: SourceArgument, served: ServedModel, settings: Settings) -> Manifest:
    fetch = served.model.spec.serving.fetch
    arguments = ("--artifact", source.argument(), "--to", MODEL_DIRECTORY, "--report", TERMINATION_LOG)
    requests = {
        "cpu": "100m",
        "memory": "256Mi",
        "ephemeral-storage": binary_quantity(served.artifact.total_bytes + GIB),
    }
    return {
        **container("fetch", settings.jobs_image, settings, sources=[source], mounts=[MODEL_MOUNT]),
        "args": [Step.FETCH, *arguments],
        "resources": with_asked(
            {"requests": requests, "limits": {"memory": "1Gi"}}, fetch.resources if fetch else None
        ),
    }
