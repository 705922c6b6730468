"""Builds the native sidecar that holds the engine beside it against what verification kept of the model.

The pod is ready once the engine that runs in it was measured and is what was verified, or policy is Warn. It reads the
reference from the artifact store, with the store's Secret, and has no rights in the cluster.
"""

from ftm_jobs.contract.mounts import AGENT_PORT
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.verification import ServingEngine
from ftm_operator.engines import llama_server, vllm
from ftm_operator.engines.conventions import PORT
from ftm_operator.planning.sizing.request import kv_cache_dtype
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import SIDECAR, container
from ftm_operator.resources.serving.engine import API_KEY, ServedModel, environment
from ftm_operator.resources.serving.llama_server import API_KEY as LLAMA_API_KEY
from ftm_operator.resources.serving.serving_labels import SERVED_CHECK
from ftm_operator.settings import Settings
from ftm_operator.steps.source import artifact_source

RESOURCES: Manifest = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
ENGINES = {vllm.ENGINE: (ServingEngine.VLLM, API_KEY), llama_server.ENGINE: (ServingEngine.LLAMA_CPP, LLAMA_API_KEY)}


def served_checks(served: ServedModel, settings: Settings) -> list[Manifest]:
    """Returns the sidecar's container; none where the engine is not held against anything."""
    if served.reference is None:
        return []
    model, plan, store = served.model, served.plan, served.store
    kind, key = ENGINES[plan.engine or vllm.ENGINE]
    made = container(SERVED_CHECK, settings.jobs_image, settings, sources=[store])
    return [
        {
            **made,
            **SIDECAR,
            "args": [
                Step.SERVED,
                *("--reference", artifact_source(served.reference, store, store.role).argument()),
                *("--engine", f"http://127.0.0.1:{PORT}", "--kind", kind),
                *("--model", str(plan.served_model_name)),
                *(_precision(served) if kind is ServingEngine.VLLM else ()),
                *("--policy", model.spec.verification.policy),
                *("--watch", "--port", str(AGENT_PORT)),
            ],
            "env": [*environment(model, {}, key), *made["env"]],
            "resources": RESOURCES,
        }
    ]


def _precision(served: ServedModel) -> list[str]:
    """Returns the dtypes that the engine is told to compute in, and to keep keys and values in."""
    cache = kv_cache_dtype(served.model.spec.serving.extra_args)
    return [
        *(("--dtype", served.plan.dtype) if served.plan.dtype not in (None, "auto") else ()),
        *(("--kv-cache-dtype", cache) if cache != "auto" else ()),
    ]
