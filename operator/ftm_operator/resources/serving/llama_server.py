"""llama-server's container: a GGUF file served on processors.

The weights are mapped from the file, so that they are the page cache's and shared; the KV cache is allocated when it
starts, for `concurrency` slots of the whole context each. Threads are as many as the container may use processors.
Adapters beside the base are fetched into the pod too: another one, or another version of one, rolls out new pods.

The engine drops what is in flight when it is told to end (ctx_server.terminate in tools/server/server.cpp), so the pod
tells it only once nothing is, or after MOST_DRAIN_SECONDS.
"""

from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.steps import Step
from ftm_operator.api.quantities import binary_quantity
from ftm_operator.engines.conventions import DRAIN_SECONDS, MODEL_DIRECTORY, MOST_DRAIN_SECONDS, PORT
from ftm_operator.engines.llama_server import ADAPTER_FILE, NAME, adapter_arguments, arguments
from ftm_operator.planning.memory.host import llama_cpp_host
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.resources.amounts import within_limits
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import TERMINATION_LOG, container, with_user_fields
from ftm_operator.resources.serving.engine import MODEL_MOUNT, ServedModel, engine_container, environment
from ftm_operator.settings import Settings
from ftm_operator.steps.source import artifact_source

API_KEY = "LLAMA_API_KEY"
THREADS = "LLAMA_ARG_THREADS"
FETCH_ADAPTER = "fetch-adapter-"


def llama_server_container(served: ServedModel, settings: Settings) -> Manifest:
    """Returns the engine's container."""
    threads = {THREADS: {"resourceFieldRef": {"resource": "limits.cpu"}}}
    engine = {
        **engine_container(NAME, served.image(settings.llama_cpp_image), settings, []),
        "args": arguments(served.model, served.plan, adapters=adapter_flags(served)),
        "resources": _resources(served),
        "lifecycle": {"preStop": _before_stop(served)},
    }
    return with_user_fields(engine, served.model.spec.serving, environment(served.model, threads, API_KEY))


def _before_stop(served: ServedModel) -> Manifest:
    """Returns the wait before the engine is stopped; an image of the user's may have no shell."""
    if served.model.spec.serving.image:
        return {"sleep": {"seconds": DRAIN_SECONDS}}
    return {"exec": {"command": ["/bin/sh", "-c", drain_script(PORT, DRAIN_SECONDS, MOST_DRAIN_SECONDS)]}}


def drain_script(port: int, least: int, most: int) -> str:
    """Returns a shell's script that ends once the engine has no request in flight; it takes so many seconds."""
    return f"""sleep {least}
command -v bash >/dev/null || exit 0
idle='exec 3<>/dev/tcp/127.0.0.1/{port} || exit 0
printf "GET /metrics HTTP/1.0\\r\\nAuthorization: Bearer ${API_KEY}\\r\\n\\r\\n" >&3
grep -q "^llamacpp:requests_processing 0" <&3'
for second in $(seq {most - least}); do
    bash -c "$idle" && exit 0
    sleep 1
done
"""


def _resources(served: ServedModel) -> Manifest:
    """Returns processors, which threads are counted by, and memory for weights and cache, unless the spec has its
    own."""
    plan, asked = served.plan, served.asked_resources
    slots, context = plan.concurrency or 1, plan.max_model_len or 0
    host = llama_cpp_host(architecture(served.facts.base), _file_bytes(served), slots, context)
    made = {"cpu": str(host.cpus), "memory": binary_quantity(host.memory_bytes)}
    requests = within_limits(made, asked.get("limits", {})) | asked.get("requests", {})
    return {"requests": requests, "limits": {"cpu": requests["cpu"], **asked.get("limits", {})}}


def _file_bytes(served: ServedModel) -> int:
    """Returns the bytes of the weights and of the adapters beside them, which are all in memory."""
    return served.weights.total_bytes + sum(adapter.total_bytes for adapter in served.started_with)


def adapter_fetches(served: ServedModel, settings: Settings) -> list[Manifest]:
    """Returns an init container for each adapter."""
    return [_fetch(number, artifact, served, settings) for number, artifact in enumerate(served.started_with)]


def adapter_flags(served: ServedModel) -> list[str]:
    """Returns the engine's flags for the adapters, in the spec's order; none where there are no adapters."""
    return adapter_arguments([f"{_folder(number)}/{ADAPTER_FILE}" for number in range(len(served.started_with))])


def number_of(digest: str, pod: Manifest) -> int | None:
    """Returns the number by which a pod's engine knows the adapter with this digest; None where it does not hold it."""
    fetches = (each for each in pod["spec"].get("initContainers") or [] if each["name"].startswith(FETCH_ADAPTER))
    held = (number for number, fetch in enumerate(fetches) if any(digest in word for word in fetch.get("args") or []))
    return next(held, None)


def _fetch(number: int, artifact: Artifact, served: ServedModel, settings: Settings) -> Manifest:
    source = artifact_source(artifact, served.store, served.store.role)
    made = container(f"{FETCH_ADAPTER}{number}", settings.jobs_image, settings, sources=[source], mounts=[MODEL_MOUNT])
    return {
        **made,
        "args": [
            Step.FETCH,
            *("--artifact", source.argument()),
            *("--to", _folder(number)),
            *("--report", TERMINATION_LOG),
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }


def _folder(number: int) -> str:
    return f"{MODEL_DIRECTORY}/adapters/{number}"
