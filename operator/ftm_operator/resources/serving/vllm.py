"""vLLM's container: its environment, its guard and its resources around the engine's command line."""

from collections.abc import Mapping
from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.quantities import binary_quantity
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.engines.conventions import MODEL_DIRECTORY
from ftm_operator.engines.vllm import (
    MODULE,
    NAME,
    OFFLINE,
    RUNTIME_ADAPTERS,
    STREAM_SECRET_KEYS,
    ReplicaNode,
    arguments,
    node_arguments,
    streaming,
)
from ftm_operator.planning.memory.host import shared_memory_bytes, unsized_vllm_host
from ftm_operator.resources.amounts import within_limits
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import with_user_fields
from ftm_operator.resources.resource_claim import CLAIM, claims_devices
from ftm_operator.resources.serving.adapter_agent import ADAPTERS_MOUNT
from ftm_operator.resources.serving.engine import API_KEY, ServedModel, engine_container, environment
from ftm_operator.resources.serving.guard import GUARD_MOUNT, with_guard
from ftm_operator.settings import Settings

SHARED_MEMORY_MOUNT: Manifest = {"name": "shm", "mountPath": "/dev/shm"}
ENVIRONMENT = {
    **OFFLINE,
    "VLLM_CACHE_ROOT": "/tmp/vllm",
    # Longer than gateways keep a connection that idles (Google's 600 s): a request on one that closes meets a 502.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "620",
    # An arbitrary user has no entry in /etc/passwd; torch asks for a name when it picks its cache folder.
    "USER": "vllm",
    "LOGNAME": "vllm",
}


def vllm_container(served: ServedModel, settings: Settings, node: ReplicaNode | None = None) -> Manifest:
    """Returns the engine's container; `node` is its part of a replica that spans several nodes."""
    answers = node is None or not node.headless
    mounts, own = [SHARED_MEMORY_MOUNT, *([{**GUARD_MOUNT, "readOnly": True}] if answers else [])], dict(ENVIRONMENT)
    if served.takes_adapters:
        mounts += [{**ADAPTERS_MOUNT, "readOnly": True}]
        own |= RUNTIME_ADAPTERS
    place, stream = (served.weights.source.uri, streaming()) if served.weights.streamed else (MODEL_DIRECTORY, [])
    if node:
        command = {
            "command": ["vllm", "serve", place],
            "args": [*stream, *node_arguments(served.model, served.plan, node)],
        }
    else:
        command = {
            "command": ["python3", "-m", MODULE],
            "args": [*stream, *arguments(served.model, served.plan, place)],
        }
    engine = {
        **engine_container(NAME, served.image(settings.vllm_image), settings, mounts),
        **command,
        "resources": _resources(served),
    }
    container = with_user_fields(
        engine, served.model.spec.serving, environment(served.model, own | _stream_secret(served), API_KEY)
    )
    return with_guard(container) if answers else container


def _stream_secret(served: ServedModel) -> dict[str, Any]:
    """Returns the variables by which vLLM reads weights from the artifact store itself."""
    secret = served.weights.source.secret_name
    if not served.weights.streamed or secret is None:
        return {}
    return {key: {"secretKeyRef": {"name": secret, "key": key, "optional": True}} for key in STREAM_SECRET_KEYS}


def shared_memory(plan: Plan) -> Manifest:
    """Returns the volume through which the ranks of a replica exchange tensors."""
    unsized = binary_quantity(shared_memory_bytes(plan.tensor_parallel_size or 1))
    size = plan.host["sharedMemory"] if plan.host else unsized
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def _resources(served: ServedModel) -> Manifest:
    """Returns one pod's GPUs by the plan, and host memory for the weights while they load, unless the spec has its
    own."""
    plan, asked = served.plan, served.asked_resources
    gpus = (plan.gpus or 0) // (plan.nodes or 1)
    host = _host(plan, served.facts)
    limits = asked.get("limits", {})
    requests = within_limits({"cpu": host["cpu"], "memory": host["memory"]}, limits) | asked.get("requests", {})
    return {"requests": requests, **_devices(plan, gpus, limits)}


def _host(plan: Plan, facts: Facts) -> Mapping[str, str]:
    """Returns cpu and memory as planned, or as for a model that is not sized."""
    if plan.host:
        return plan.host
    adapter_bytes = (plan.adapters.host_bytes or 0) if plan.adapters else 0
    host = unsized_vllm_host(plan.tensor_parallel_size or 1, facts.base.weight_bytes, adapter_bytes)
    return {"cpu": str(host.cpus), "memory": binary_quantity(host.memory_bytes)}


def _devices(plan: Plan, gpus: int, limits: Manifest) -> Manifest:
    """Returns the GPUs, as an extended resource or by the pod's claim, beside the limits that the spec sets."""
    if claims_devices(plan):
        return {"claims": [{"name": CLAIM}], **({"limits": limits} if limits else {})}
    return {"limits": {**limits, str(plan.accelerator): str(gpus)}}
