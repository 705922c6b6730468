"""Writes vLLM's command line: the plan's choices first and the user's own arguments last."""

from dataclasses import dataclass

from ftm_jobs.contract.mounts import GUARD_MODULE
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.conventions import MODEL_DIRECTORY, PORT, SHUTDOWN_SECONDS

ENGINE = "vLLM"
"""Its name in a plan."""
NAME = "vllm"
"""Its name in Kubernetes: of the container, and of what `app.kubernetes.io/name` says of the pod."""
MODULE = "vllm.entrypoints.openai.api_server"
MASTER_PORT = 29501
"""The port at which the nodes of a replica meet; vLLM's default."""
GUARD_FLAGS = ("--middleware", f"{GUARD_MODULE}.Guard")
"""Puts the guard in front of all that vLLM serves; the module must be on PYTHONPATH."""
RUNTIME_ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
"""The environment in which vLLM loads adapters while it serves."""
STREAM_SECRET_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
)
"""The keys of a store's Secret that the streamer reads as variables. Source: run-ai/runai-model-streamer, docs/src."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
"""The environment in which vLLM asks nobody on the internet."""


@dataclass(frozen=True)
class ReplicaNode:
    """One node of a replica that spans several."""

    leader: str
    """The first node's address."""
    rank: str
    """The number of this node, from 0."""
    headless: bool
    """The first node answers; the others are headless."""


def arguments(model: FineTunedModel, plan: Plan, directory: str = MODEL_DIRECTORY, port: int = PORT) -> list[str]:
    """Returns the arguments of MODULE on one node."""
    return ["--model", directory, *_settings(model, plan, port, _adapters(plan))]


def node_arguments(model: FineTunedModel, plan: Plan, node: ReplicaNode) -> list[str]:
    """Returns the arguments of `vllm serve`, the only command of vLLM's that can be headless."""
    nodes = [
        *("--nnodes", str(plan.nodes)),
        *("--node-rank", node.rank),
        *("--master-addr", node.leader),
        *("--master-port", str(MASTER_PORT)),
        *(["--headless"] if node.headless else []),
    ]
    return _settings(model, plan, PORT, nodes)


def streaming(directory: str = MODEL_DIRECTORY) -> list[str]:
    """Returns the arguments by which vLLM streams weights from S3, where --model names them.

    What is not weights is read from the folder, where each file was proven.
    """
    return [
        *("--load-format", "runai_streamer"),
        *("--tokenizer", directory),
        *("--hf-config-path", directory),
        *("--generation-config", directory),
    ]


def _adapters(plan: Plan) -> list[str]:
    """Returns the room for adapters beside the base, in mode Dynamic."""
    room = plan.adapters
    if room is None:
        return []
    return [
        "--enable-lora",
        *("--max-lora-rank", str(room.max_rank)),
        *("--max-loras", str(room.slots)),
        *("--max-cpu-loras", str(room.cpu_slots)),
    ]


def _settings(model: FineTunedModel, plan: Plan, port: int, more: list[str]) -> list[str]:
    """Returns the plan as flags; vLLM reads from the weights how they are quantized."""
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
        *more,
        *serving.extra_args,
    ]
