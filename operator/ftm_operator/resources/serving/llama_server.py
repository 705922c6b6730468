"""llama-server's container: a GGUF file served on processors.

The weights are mapped from the file, so that they are the page cache's and shared; the KV cache is allocated when it
starts, for `concurrency` slots of the whole context each. Threads are as many as the container may use processors.
"""

from ftm_operator.api.quantities import binary_quantity
from ftm_operator.engines.llama_server import NAME, arguments
from ftm_operator.planning.memory.host import llama_cpp_host
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.resources.amounts import within_limits
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import with_user_fields
from ftm_operator.resources.serving.engine import ServedModel, engine_container, environment
from ftm_operator.settings import Settings

API_KEY = "LLAMA_API_KEY"
THREADS = "LLAMA_ARG_THREADS"


def llama_server_container(served: ServedModel, settings: Settings) -> Manifest:
    """Returns the engine's container."""
    threads = {THREADS: {"resourceFieldRef": {"resource": "limits.cpu"}}}
    engine = {
        **engine_container(NAME, served.image(settings.llama_cpp_image), settings, []),
        "args": arguments(served.model, served.plan),
        "resources": _resources(served),
    }
    return with_user_fields(engine, served.model.spec.serving, environment(served.model, threads, API_KEY))


def _resources(served: ServedModel) -> Manifest:
    """Returns processors, which threads are counted by, and memory for weights and cache, unless the spec has its
    own."""
    plan, asked = served.plan, served.asked_resources
    slots, context = plan.concurrency or 1, plan.max_model_len or 0
    host = llama_cpp_host(architecture(served.facts.base), served.artifact.total_bytes, slots, context)
    made = {"cpu": str(host.cpus), "memory": binary_quantity(host.memory_bytes)}
    requests = within_limits(made, asked.get("limits", {})) | asked.get("requests", {})
    return {"requests": requests, "limits": {"cpu": requests["cpu"], **asked.get("limits", {})}}
