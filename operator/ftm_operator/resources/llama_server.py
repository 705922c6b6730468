"""llama-server's container: a GGUF file served on processors.

The weights are mapped from the file, so that they are the page cache's and shared; the KV cache is allocated when it
starts, for `concurrency` slots of the whole context each. Threads are as many as the container may use processors.
"""

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.memory.host import llama_cpp_host
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.resources.engine import MODEL_DIRECTORY, PORT, environment
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import quantity

MODEL_FILE = "model.gguf"
API_KEY = "LLAMA_API_KEY"
THREADS = "LLAMA_ARG_THREADS"


def arguments(
    model: FineTunedModel, plan: Plan, directory: str = MODEL_DIRECTORY, port: int = PORT, host: str = "0.0.0.0"
) -> list[str]:
    """The plan's choices first and the user's own arguments last."""
    slots, context = plan.concurrency or 1, plan.max_model_len or 0
    return [
        *("--model", f"{directory}/{MODEL_FILE}"),
        *("--alias", str(plan.served_model_name)),
        *("--host", host),
        *("--port", str(port)),
        *("--ctx-size", str(slots * context)),
        *("--parallel", str(slots)),
        "--metrics",
        "--no-webui",
        *model.spec.serving.extra_args,
    ]


def engine(model: FineTunedModel, plan: Plan, facts: Facts, artifact: Artifact) -> Manifest:
    return {
        "args": arguments(model, plan),
        "env": environment(model, {THREADS: {"resourceFieldRef": {"resource": "limits.cpu"}}}, API_KEY),
        "resources": _resources(model, plan, facts, artifact),
    }


def _resources(model: FineTunedModel, plan: Plan, facts: Facts, artifact: Artifact) -> Manifest:
    """Processors, and memory for weights and cache, unless the spec says otherwise; the limit of processors is what
    threads are counted by."""
    asked = model.spec.serving.resources.to_json() if model.spec.serving.resources else {}
    slots, context = plan.concurrency or 1, plan.max_model_len or 0
    host = llama_cpp_host(architecture(facts.base), artifact.total_bytes, slots, context)
    requests = {"cpu": str(host.cpus), "memory": quantity(host.memory_bytes), **asked.get("requests", {})}
    return {"requests": requests, "limits": {"cpu": requests["cpu"], **asked.get("limits", {})}}
