"""Writes llama-server's command line: the plan's choices first and the user's own arguments last."""

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.conventions import MODEL_DIRECTORY, PORT

ENGINE = "LlamaCpp"
"""Its name in a plan."""
NAME = "llama-server"
"""Its name in Kubernetes: of the container, and of what `app.kubernetes.io/name` says of the pod."""
MODEL_FILE = "model.gguf"


def arguments(
    model: FineTunedModel, plan: Plan, directory: str = MODEL_DIRECTORY, port: int = PORT, host: str = "0.0.0.0"
) -> list[str]:
    """Returns llama-server's arguments; every request slot has the plan's whole context."""
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
