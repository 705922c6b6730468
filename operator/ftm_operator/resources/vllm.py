"""vLLM's container: its command line, environment and resources."""

from collections.abc import Mapping

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.memory.host import shared_memory_bytes, unsized_vllm_host
from ftm_operator.resources.engine import API_KEY, MODEL_DIRECTORY, PORT, SHUTDOWN_SECONDS, environment
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import quantity
from ftm_operator.resources.resource_claim import CLAIM, claims_devices

CONTAINER = "vllm"
MODULE = "vllm.entrypoints.openai.api_server"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CACHE_ROOT": "/tmp/vllm",
    # An arbitrary user has no entry in /etc/passwd; torch asks for a name when it picks its cache folder.
    "USER": "vllm",
    "LOGNAME": "vllm",
}


MASTER_PORT = 29501
"""Where the nodes of a replica meet; vLLM's default."""


def arguments(model: FineTunedModel, plan: Plan, directory: str = MODEL_DIRECTORY, port: int = PORT) -> list[str]:
    return ["--model", directory, *_settings(model, plan, port, [])]


def _settings(model: FineTunedModel, plan: Plan, port: int, nodes: list[str]) -> list[str]:
    """The plan's choices first and the user's own arguments last. vLLM finds by itself how the weights are
    quantized."""
    serving = model.spec.serving
    utilization = plan.gpu_memory_utilization or serving.gpu_memory_utilization
    sized = {
        "--pipeline-parallel-size": plan.pipeline_parallel_size,
        "--gpu-memory-utilization": utilization,
        "--max-num-batched-tokens": plan.max_num_batched_tokens,
        "--max-num-seqs": plan.max_num_seqs,
    }
    return [
        *("--served-model-name", str(plan.served_model_name)),
        *("--port", str(port)),
        *("--dtype", str(plan.dtype)),
        *("--max-model-len", str(plan.max_model_len)),
        *("--tensor-parallel-size", str(plan.tensor_parallel_size)),
        *("--shutdown-timeout", str(SHUTDOWN_SECONDS)),
        *(word for flag, value in sized.items() if value for word in (flag, str(value))),
        *nodes,
        *serving.extra_args,
    ]


def engine(model: FineTunedModel, plan: Plan, facts: Facts) -> Manifest:
    return {
        "command": ["python3", "-m", MODULE],
        "args": arguments(model, plan),
        "env": environment(model, dict(ENVIRONMENT), API_KEY),
        "resources": _resources(model, plan, facts),
    }


def node_engine(model: FineTunedModel, plan: Plan, facts: Facts, leader: str, rank: str, *, headless: bool) -> Manifest:
    """One node's part of a replica that spans several. The first answers, and the others are headless, which of vLLM's
    commands `vllm serve` alone can be.

    `leader`: the first node's address. `rank`: which node this is, from 0.
    """
    nodes = [
        *("--nnodes", str(plan.nodes)),
        *("--node-rank", rank),
        *("--master-addr", leader),
        *("--master-port", str(MASTER_PORT)),
        *(["--headless"] if headless else []),
    ]
    return {
        "command": ["vllm", "serve", MODEL_DIRECTORY],
        "args": _settings(model, plan, PORT, nodes),
        "env": environment(model, dict(ENVIRONMENT), API_KEY),
        "resources": _resources(model, plan, facts),
    }


def shared_memory(plan: Plan) -> Manifest:
    """The volume through which the ranks of a replica exchange tensors."""
    unsized = quantity(shared_memory_bytes(plan.tensor_parallel_size or 1))
    size = plan.host["sharedMemory"] if plan.host else unsized
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def _resources(model: FineTunedModel, plan: Plan, facts: Facts) -> Manifest:
    """Of one pod: GPUs by the plan; host memory for the weights while they load, unless the spec says otherwise."""
    asked = model.spec.serving.resources.to_json() if model.spec.serving.resources else {}
    gpus = (plan.gpus or 0) // (plan.nodes or 1)
    host = _host(plan, facts)
    return {
        "requests": {"cpu": host["cpu"], "memory": host["memory"], **asked.get("requests", {})},
        **_devices(plan, gpus, asked.get("limits", {})),
    }


def _host(plan: Plan, facts: Facts) -> Mapping[str, str]:
    """Returns cpu and memory as planned, or as for a model that is not sized."""
    if plan.host:
        return plan.host
    host = unsized_vllm_host(plan.tensor_parallel_size or 1, facts.base.weight_bytes)
    return {"cpu": str(host.cpus), "memory": quantity(host.memory_bytes)}


def _devices(plan: Plan, gpus: int, limits: Manifest) -> Manifest:
    """The GPUs, as an extended resource or by the pod's claim, beside the limits that the spec sets."""
    if claims_devices(plan):
        return {"claims": [{"name": CLAIM}], **({"limits": limits} if limits else {})}
    return {"limits": {**limits, str(plan.accelerator): str(gpus)}}
