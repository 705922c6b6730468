"""Holds the names in Pods that are the operator's own, and the rules that nobody else uses them."""

from typing import Annotated

from pydantic import Field

from ftm_operator.api.schema import Rule, full_match, full_match_cel, matches
from ftm_operator.api.spec.kubernetes_fields import AnnotationKeys, LabelKeys, LabelValue

MODEL_VOLUME = "model"
CACHE_VOLUME = "ftm-cache"
KEPT_VOLUMES = (
    rf"{MODEL_VOLUME}|{CACHE_VOLUME}|ftm-guard|ftm-adapters|ftm-wanted-adapters|claim-[0-9]+"
    r"|(base|adapter-[0-9]+|model|quantized|calibration|artifacts|registry)-credentials"
)
"""The names of the operator's volumes that stay what they are."""
OWN_VOLUMES = rf"tmp|shm|{KEPT_VOLUMES}"
"""The names of all volumes that the operator mounts."""
OWN_PATHS = (
    r"/tmp|/dev/shm|/dev/termination-log"
    r"|/(model|pvc|var/run/ftm(-guard|-adapters|-cache|-compiled)?|etc/ftm/adapters)(/.*)?"
)
"""The paths at which it mounts them, with those below that are nobody else's."""
OWN_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/managed-by")
OWN_PREFIX = "ftm.dev/"
CACHE_FOLDER, CACHE_HOLDER = "ftm-cache-folder", "ftm-cache-holder"
INIT_CONTAINERS = ("fetch", CACHE_FOLDER, CACHE_HOLDER, "adapters", "served")
"""Those of serving Pods that are init containers; all but the first two are native sidecars."""
ENGINE_CONTAINERS = ("vllm", "llama-server")
STEP_CONTAINERS = ("inspect", "merge", "quantize", "verify", "publish", "adapter")
SERVING_CONTAINERS = (*INIT_CONTAINERS, *ENGINE_CONTAINERS)
MAIN_CONTAINERS = (*ENGINE_CONTAINERS, *STEP_CONTAINERS)
OWN_CONTAINERS = (*INIT_CONTAINERS, *MAIN_CONTAINERS)
_SEGMENT = r"[^/:.][^/:]*|\.[^/:.][^/:]*|\.\.[^/:]+"
ABSOLUTE_PATH = matches(
    rf"(/({_SEGMENT}))+", "{value} is not an absolute path; write one without '..' and ':', as in /etc/acme"
)
ENGINE_PORT = 8000
GPU_CLAIM = "gpus"


def not_matching(pattern: str, message: str) -> Rule:
    """Returns the rule that a string is none of the pattern's."""
    found = full_match(pattern)
    return Rule(message, f"!{full_match_cel(pattern)}", lambda value: not found(value))


def _not_ours(what: str, *names: str) -> Rule:
    said = ", ".join((*names, f"{OWN_PREFIX}*"))
    absent = [f"!('{name}' in self)" for name in names]
    return Rule(
        f"the operator sets {what} {said} itself; leave them out",
        " && ".join([*absent, f"!self.exists(key, key.startsWith('{OWN_PREFIX}'))"]),
        lambda given: not any(key in names or key.startswith(OWN_PREFIX) for key in given),
    )


PodLabels = Annotated[dict[str, LabelValue], Field(max_length=64), LabelKeys, _not_ours("labels", *OWN_LABELS)]
PodAnnotations = Annotated[
    dict[str, Annotated[str, Field(max_length=65536)]], Field(max_length=64), AnnotationKeys, _not_ours("annotations")
]
