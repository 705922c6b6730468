"""The Deployment that serves a model, whichever engine does.

An init container fetches the artifact and proves every file's sha256. On shutdown the pod first leaves its Service
(DRAIN_SECONDS), then the engine finishes what is in flight (SHUTDOWN_SECONDS). A rollout starts a new pod before it
stops an old one, so what works keeps serving until its successor is ready.
"""

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.steps import Step
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources import llama_server, vllm
from ftm_operator.resources.engine import MODEL_DIRECTORY, PORT, SHUTDOWN_SECONDS
from ftm_operator.resources.metadata import (
    ARTIFACT_DIGEST,
    COMPONENT,
    NAME,
    POD_TEMPLATE,
    Manifest,
    labels,
    metadata,
    with_spec_hash,
)
from ftm_operator.resources.pod import (
    HOME,
    TMP_MOUNT,
    TMP_VOLUME,
    Source,
    container,
    pod_spec,
    quantity,
    source_mounts,
    source_volumes,
)
from ftm_operator.resources.resource_claim import claims_devices, pod_claims
from ftm_operator.settings import Settings

DRAIN_SECONDS = 15
STARTUP_SECONDS = 1800
PROGRESS_DEADLINE_SECONDS = 2 * STARTUP_SECONDS
LLAMA_CPP = "LlamaCpp"
SHARED_MEMORY_MOUNT: Manifest = {"name": "shm", "mountPath": "/dev/shm"}


def selector(model: FineTunedModel) -> dict[str, str]:
    """The pods that answer. The same for every engine, since a Deployment's selector cannot change."""
    return {COMPONENT: "vllm", NAME: model.metadata.name}


def deployment(
    model: FineTunedModel, plan: Plan, facts: Facts, artifact: Artifact, secret_name: str | None, settings: Settings
) -> Manifest:
    child_labels = labels(model, "vllm", "serve")
    engine = answering(_engine(model, plan, facts, artifact, settings))
    pod = serving_pod(model, plan, artifact, secret_name, settings, engine)
    annotations = {ARTIFACT_DIGEST: artifact.digest, POD_TEMPLATE: short_hash([pod, artifact.digest], 16)}
    return with_spec_hash(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(model, model.metadata.name, child_labels),
            "spec": {
                "replicas": model.spec.serving.replicas,
                "selector": {"matchLabels": selector(model)},
                "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {
                    "metadata": {"labels": child_labels, "annotations": annotations},
                    "spec": pod,
                },
            },
        }
    )


def serving_pod(
    model: FineTunedModel,
    plan: Plan,
    artifact: Artifact,
    secret_name: str | None,
    settings: Settings,
    engine: Manifest,
) -> Manifest:
    """The spec of a pod that fetches the artifact and then runs the engine's container on it."""
    serving = model.spec.serving
    source = Source("artifacts", artifact.uri, secret_name, artifact.digest)
    node_selector = {**(plan.node_selector or {}), **serving.node_selector}
    return {
        **pod_spec(settings, [source]),
        "terminationGracePeriodSeconds": DRAIN_SECONDS + SHUTDOWN_SECONDS + 15,
        "initContainers": [_fetch(source, artifact, settings)],
        "containers": [engine],
        "volumes": [
            TMP_VOLUME,
            {"name": "model", "emptyDir": {}},
            *([] if plan.engine == LLAMA_CPP else [vllm.shared_memory(plan)]),
            *source_volumes([source]),
        ],
        **({"resourceClaims": pod_claims(model, plan)} if claims_devices(plan) else {}),
        **({"nodeSelector": node_selector} if node_selector else {}),
        **(
            {"tolerations": [toleration.to_json() for toleration in serving.tolerations]} if serving.tolerations else {}
        ),
    }


def _fetch(source: Source, artifact: Artifact, settings: Settings) -> Manifest:
    return {
        **container("fetch", settings.jobs_image, settings),
        "args": [
            Step.FETCH,
            "--artifact",
            source.argument(),
            "--to",
            MODEL_DIRECTORY,
            "--report",
            "/dev/termination-log",
        ],
        "env": [HOME],
        "resources": {
            "requests": {
                "cpu": "100m",
                "memory": "256Mi",
                "ephemeral-storage": quantity(artifact.total_bytes + 2**30),
            },
            "limits": {"memory": "1Gi"},
        },
        "volumeMounts": [TMP_MOUNT, {"name": "model", "mountPath": MODEL_DIRECTORY}, *source_mounts([source])],
    }


def _engine(model: FineTunedModel, plan: Plan, facts: Facts, artifact: Artifact, settings: Settings) -> Manifest:
    if plan.engine == LLAMA_CPP:
        said = llama_server.engine(model, plan, facts, artifact)
        return engine_container("llama-server", settings.llama_cpp_image, settings, said, [])
    return vllm_container(settings, vllm.engine(model, plan, facts))


def vllm_container(settings: Settings, said: Manifest) -> Manifest:
    return engine_container(vllm.CONTAINER, settings.vllm_image, settings, said, [SHARED_MEMORY_MOUNT])


def engine_container(name: str, image: str, settings: Settings, said: Manifest, mounts: list[Manifest]) -> Manifest:
    """`said`: the engine's own command line, environment and resources."""
    return {
        **container(name, image, settings),
        **said,
        "env": [*said["env"], HOME],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [TMP_MOUNT, {"name": "model", "mountPath": MODEL_DIRECTORY, "readOnly": True}, *mounts],
    }


def answering(engine: Manifest) -> Manifest:
    """The container that takes requests: with its port, its probes, and a pause before it is stopped."""
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        **engine,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": {**health, "periodSeconds": 5, "failureThreshold": STARTUP_SECONDS // 5, "timeoutSeconds": 5},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 10},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
    }
