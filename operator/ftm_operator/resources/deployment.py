"""The Deployment that serves a merged model with vLLM.

An init container fetches the artifact and proves every file's sha256. On shutdown the pod first leaves its Service
(DRAIN_SECONDS), then vLLM finishes what is in flight (SHUTDOWN_SECONDS). A rollout starts a new pod before it stops
an old one, so what works keeps serving until its successor is ready.
"""

from ftm_jobs.contract import Artifact, Facts, Step
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import (
    ARTIFACT_DIGEST,
    COMPONENT,
    NAME,
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
    source_mounts,
    source_volumes,
)
from ftm_operator.settings import Settings

ENGINE_MODULE = "vllm.entrypoints.openai.api_server"
PORT = 8000
MODEL_DIRECTORY = "/model"
DRAIN_SECONDS = 15
SHUTDOWN_SECONDS = 45
STARTUP_SECONDS = 1800
PROGRESS_DEADLINE_SECONDS = 2 * STARTUP_SECONDS
SHARED_MEMORY_BYTES_PER_GPU = 2**30
API_KEY = "VLLM_API_KEY"
"""The key in the Secret that spec.serving.apiKeySecretName names."""

ENGINE_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CACHE_ROOT": "/tmp/vllm",
    # An arbitrary user has no entry in /etc/passwd; torch asks for a name when it picks its cache folder.
    "USER": "vllm",
    "LOGNAME": "vllm",
}


def selector(model: FineTunedModel) -> dict[str, str]:
    return {COMPONENT: "vllm", NAME: model.metadata.name}


def deployment(
    model: FineTunedModel, plan: Plan, facts: Facts, artifact: Artifact, secret_name: str | None, settings: Settings
) -> Manifest:
    serving = model.spec.serving
    child_labels = labels(model, "vllm", "serve")
    source = Source("artifacts", artifact.uri, secret_name, artifact.digest)
    pod = {
        **pod_spec(settings, [source]),
        "terminationGracePeriodSeconds": DRAIN_SECONDS + SHUTDOWN_SECONDS + 15,
        "initContainers": [_fetch(source, artifact, settings)],
        "containers": [_engine(model, plan, facts, settings)],
        "volumes": [
            TMP_VOLUME,
            {"name": "model", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _mebibytes(_shared_memory(plan))}},
            *source_volumes([source]),
        ],
        **({"nodeSelector": serving.node_selector} if serving.node_selector else {}),
        **(
            {"tolerations": [toleration.to_json() for toleration in serving.tolerations]} if serving.tolerations else {}
        ),
    }
    return with_spec_hash(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(model, model.metadata.name, child_labels),
            "spec": {
                "replicas": serving.replicas,
                "selector": {"matchLabels": selector(model)},
                "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {
                    "metadata": {"labels": child_labels, "annotations": {ARTIFACT_DIGEST: artifact.digest}},
                    "spec": pod,
                },
            },
        }
    )


def engine_arguments(
    model: FineTunedModel, plan: Plan, directory: str = MODEL_DIRECTORY, port: int = PORT
) -> list[str]:
    """vLLM's command line, the plan's choices first and the user's own arguments last."""
    serving = model.spec.serving
    utilization = serving.gpu_memory_utilization
    return [
        *("--model", directory),
        *("--served-model-name", plan.served_model_name),
        *("--port", str(port)),
        *("--dtype", plan.dtype),
        *("--max-model-len", str(plan.max_model_len)),
        *("--tensor-parallel-size", str(plan.tensor_parallel_size)),
        *("--shutdown-timeout", str(SHUTDOWN_SECONDS)),
        *(("--gpu-memory-utilization", str(utilization)) if utilization else ()),
        *serving.extra_args,
    ]


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
                "ephemeral-storage": _mebibytes(artifact.total_bytes + 2**30),
            },
            "limits": {"memory": "1Gi"},
        },
        "volumeMounts": [TMP_MOUNT, {"name": "model", "mountPath": MODEL_DIRECTORY}, *source_mounts([source])],
    }


def _engine(model: FineTunedModel, plan: Plan, facts: Facts, settings: Settings) -> Manifest:
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        **container("vllm", settings.vllm_image, settings),
        "command": ["python3", "-m", ENGINE_MODULE],
        "args": engine_arguments(model, plan),
        "env": [*_environment(model), HOME],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(model, plan, facts),
        "startupProbe": {**health, "periodSeconds": 5, "failureThreshold": STARTUP_SECONDS // 5, "timeoutSeconds": 5},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 10},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            TMP_MOUNT,
            {"name": "model", "mountPath": MODEL_DIRECTORY, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _environment(model: FineTunedModel) -> list[Manifest]:
    serving = model.spec.serving
    own = [{"name": name, "value": value} for name, value in ENGINE_ENVIRONMENT.items()]
    if serving.api_key_secret_name:
        reference = {"name": serving.api_key_secret_name, "key": API_KEY}
        own.append({"name": API_KEY, "valueFrom": {"secretKeyRef": reference}})  # type: ignore[dict-item]
    users: list[Manifest] = [variable.to_json() for variable in serving.env]
    names = {variable["name"] for variable in users}
    return [*(variable for variable in own if variable["name"] not in names), *users]


def _resources(model: FineTunedModel, plan: Plan, facts: Facts) -> Manifest:
    """GPUs by the plan; host memory for the weights while they load, unless the spec says otherwise."""
    asked = model.spec.serving.resources.to_json() if model.spec.serving.resources else {}
    memory = _mebibytes(facts.base.weight_bytes + 2 * 2**30)
    return {
        "requests": {"cpu": "1", "memory": memory, **asked.get("requests", {})},
        "limits": {**asked.get("limits", {}), str(plan.accelerator): str(plan.gpus)},
    }


def _shared_memory(plan: Plan) -> int:
    return (plan.tensor_parallel_size or 1) * SHARED_MEMORY_BYTES_PER_GPU


def _mebibytes(size_bytes: int) -> str:
    """A quantity as the API server writes it back: whole mebibytes, or gibibytes when they are whole."""
    mebibytes = -(-size_bytes // 2**20)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"
