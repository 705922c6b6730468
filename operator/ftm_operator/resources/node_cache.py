"""Builds what a serving pod has of the cache that the pods of its node share, where spec.serving.cache names one.

The fetch container fills the cache and leaves links in the pod's own folder. The engine sees the artifacts, read-only,
and of what engines compiled its own part. A sidecar holds a lease on both for as long as the pod lives. A claim's
folder is the pods' by fsGroup. A node's folder has one for each namespace; the kubelet makes it as root's, so a
container gives it to the pods' user.
"""

from ftm_jobs.contract.mounts import CACHE, CACHED_ARTIFACTS, CACHED_CODE, COMPILED
from ftm_jobs.contract.steps import Step
from ftm_operator.api.quantities import quantity
from ftm_operator.api.spec.pod_names import CACHE_FOLDER, CACHE_HOLDER, CACHE_VOLUME
from ftm_operator.api.spec.serving_children import NodeCache
from ftm_operator.engines import vllm
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.pod import CONTAINER_SECURITY, TERMINATION_LOG, USER, container
from ftm_operator.resources.serving.engine import ServedModel
from ftm_operator.resources.serving.kept_template import ROLLOUT_ANNOTATION
from ftm_operator.settings import Settings

POD_UID: Manifest = {
    "name": "FTM_POD_UID",
    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
}
CACHE_MOUNT: Manifest = {"name": CACHE_VOLUME, "mountPath": CACHE}
COMPILED_FOLDERS = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
}
"""The variables by which vLLM and what it compiles with are told where that is kept."""
RESOURCES: Manifest = {"requests": {"cpu": "5m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}}
"""Those of the containers that look after the cache: a holder has 35 MiB."""


def with_node_cache(pod: Manifest, served: ServedModel, settings: Settings) -> Manifest:
    """Returns the spec of a serving pod with what the cache takes; as it is where there is no cache.

    The pod's first init container fetches the weights, and its one container is the engine.
    """
    cache = served.model.spec.serving.cache
    if cache is None:
        return pod
    fetch, *others = pod["initContainers"]
    (engine,) = pod["containers"]
    compiled = _compiled_name(served, engine)
    security = {**pod["securityContext"], **({"fsGroupChangePolicy": "OnRootMismatch"} if cache.claim_name else {})}
    return {
        **pod,
        "securityContext": security,
        "volumes": [*pod["volumes"], _volume(served, cache)],
        "initContainers": [
            *([_folder_giver(settings)] if cache.host_path else []),
            _fetching(fetch, served, cache, compiled),
            _holder(served, settings, compiled),
            *others,
        ],
        "containers": [_serving(engine, served, compiled)],
    }


def with_folder_owner(pod: Manifest) -> Manifest:
    """Returns a pod whose node's folder is given to the user and the fsGroup of the pod, whoever has set them."""
    security = pod["securityContext"]
    owner = f"{security.get('runAsUser', USER)}:{security.get('fsGroup', USER)}"
    containers = [
        {**each, "args": [*each["args"], "--give-to", owner]} if each["name"] == CACHE_FOLDER else each
        for each in pod.get("initContainers", [])
    ]
    return {**pod, "initContainers": containers} if containers else pod


def fits(served: ServedModel) -> bool:
    """Tells whether the weights go to a cache, and not to the pod's own disk."""
    cache = served.model.spec.serving.cache
    return cache is not None and served.weights.total_bytes <= quantity(cache.size)


def _volume(served: ServedModel, cache: NodeCache) -> Manifest:
    if cache.claim_name:
        return {"name": CACHE_VOLUME, "persistentVolumeClaim": {"claimName": cache.claim_name}}
    path = f"{cache.host_path}/{served.model.metadata.namespace}"
    return {"name": CACHE_VOLUME, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def _compiled_name(served: ServedModel, engine: Manifest) -> str | None:
    """Returns the name of what the engine compiles: another image, model, kind of GPU or command has another one.

    llama.cpp compiles nothing.
    """
    if engine["name"] != vllm.NAME:
        return None
    command = [engine.get(part) for part in ("image", "command", "args", "env")]
    rollout = served.model.metadata.annotations.get(ROLLOUT_ANNOTATION)
    return short_hash([*command, served.weights.digest, dict(served.plan.node_selector or {}), rollout], 16)


def _fetching(fetch: Manifest, served: ServedModel, cache: NodeCache, compiled: str | None) -> Manifest:
    return {
        **fetch,
        "args": [
            *fetch["args"],
            *("--cache", CACHE),
            *("--cache-size", str(int(quantity(cache.size)))),
            *("--bytes", str(served.weights.total_bytes)),
            *_pod_arguments(compiled),
        ],
        "env": [*fetch["env"], POD_UID],
        "volumeMounts": [*fetch["volumeMounts"], CACHE_MOUNT],
    }


def _holder(served: ServedModel, settings: Settings, compiled: str | None) -> Manifest:
    made = container(CACHE_HOLDER, settings.jobs_image, settings, mounts=[CACHE_MOUNT])
    source = served.weights.source
    return {
        **made,
        "restartPolicy": "Always",
        "args": [
            Step.CACHE,
            *("--cache", CACHE),
            *("--hold", f"{source.uri},digest={source.digest}"),
            *_pod_arguments(compiled),
        ],
        "env": [*made["env"], POD_UID],
        "resources": RESOURCES,
    }


def _pod_arguments(compiled: str | None) -> list[str]:
    return ["--pod", f"$({POD_UID['name']})", *(["--compiled", compiled] if compiled else [])]


def _folder_giver(settings: Settings) -> Manifest:
    """Returns the container that gives the node's folder to the pods' user: root's, with that one right."""
    made = container(CACHE_FOLDER, settings.jobs_image, settings, mounts=[CACHE_MOUNT])
    as_root = {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}
    may = {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}
    return {
        **made,
        "securityContext": {**CONTAINER_SECURITY, **as_root, **may},
        "args": [Step.CACHE, "--cache", CACHE, "--report", TERMINATION_LOG],
        "resources": RESOURCES,
    }


def _serving(engine: Manifest, served: ServedModel, compiled: str | None) -> Manifest:
    """Returns the engine's container with the links' targets, and with a place for what it compiles."""
    artifacts = {**CACHE_MOUNT, "mountPath": f"{CACHE}/{CACHED_ARTIFACTS}", "subPath": CACHED_ARTIFACTS}
    mounts = [*engine["volumeMounts"], {**artifacts, "readOnly": True}]
    if compiled is None:
        return {**engine, "volumeMounts": mounts}
    users = {variable.name for variable in served.model.spec.serving.env}
    own = {name: f"{COMPILED}/{folder}" for name, folder in COMPILED_FOLDERS.items() if name not in users}
    others = [variable for variable in engine["env"] if variable["name"] not in own]
    return {
        **engine,
        "env": [*others, *({"name": name, "value": value} for name, value in own.items())],
        "volumeMounts": [
            *mounts,
            {**CACHE_MOUNT, "mountPath": COMPILED, "subPath": f"{CACHED_CODE}/{compiled}"},
        ],
    }
