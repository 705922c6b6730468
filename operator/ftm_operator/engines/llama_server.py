"""Writes llama-server's command line: the plan's choices first and the user's own arguments last."""

from collections.abc import Sequence

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.conventions import MODEL_DIRECTORY, PORT

ENGINE = "LlamaCpp"
"""Its name in a plan."""
NAME = "llama-server"
"""Its name in Kubernetes: of the container, and of what `app.kubernetes.io/name` says of the pod."""
MODEL_FILE = "model.gguf"
ADAPTER_FILE = "adapter.gguf"


def arguments(
    model: FineTunedModel,
    plan: Plan,
    directory: str = MODEL_DIRECTORY,
    port: int = PORT,
    host: str = "0.0.0.0",
    *,
    adapters: Sequence[str] = (),
) -> list[str]:
    """Returns llama-server's arguments; every request slot has the plan's whole context.

    `adapters` are `adapter_arguments`.
    """
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
        *adapters,
        *model.spec.serving.extra_args,
    ]


def adapter_arguments(files: Sequence[str]) -> list[str]:
    """Returns the arguments by which the engine holds adapters beside the base, numbered in this order from 0.

    A request names the scale of each in `lora`; one that names none is answered by the base. The engine's caches of
    prompts do not know by which adapters they were computed (tools/server/server-context.cpp), so they are off.
    """
    if not files:
        return []
    return [
        *(word for file in files for word in ("--lora-scaled", f"{file}:0")),
        "--no-cache-prompt",
        "--cache-ram",
        "0",
    ]


def loads_at_start(plan: Plan) -> bool:
    """Tells whether a plan serves the base with adapters that the engine loads when it starts, and at no other time."""
    return plan.engine == ENGINE and plan.mode == "Dynamic"
