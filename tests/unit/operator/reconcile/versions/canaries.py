"""Tells stories of canaries: a model that is served behind a Gateway, and a new version of it."""

import copy
from typing import Any

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, resource
from tests.unit.operator.scene import Scene, scene_of

CANARY = f"{NAME}-canary"
GATEWAY_API = frozenset(("HTTPRoute", "gateway.networking.k8s.io"))
STEPS = [{"weight": 10, "pauseSeconds": 300}, {"weight": 50}]
NEW = ["--enforce-eager"]


def asked(steps: list[dict[str, int]] | None = None, **serving: Any) -> dict[str, Any]:
    gateway = {"name": "public", "hostnames": ["models.example.com"]}
    canary = {"steps": STEPS if steps is None else steps}
    return {"strategy": "Canary", "gateway": gateway, "canary": canary, **serving}


def served(steps: list[dict[str, int]] | None = None, gpus: tuple[AcceleratorClass, ...] = (), **serving: Any) -> Scene:
    """Returns a model that serves its first version, to which the Gateway leads."""
    scene = scene_of(resource(serving=asked(steps, **serving)), gpus=gpus)
    scene.served_apis = GATEWAY_API
    scene.reach("Deploying")
    scene.answer()
    gateway_follows(scene)
    assert scene.phase() == "Ready"
    return scene


def started(steps: list[dict[str, int]] | None = None, **serving: Any) -> Scene:
    """Returns a model whose new version has just been asked for."""
    scene = served(steps, **serving)
    change(scene, steps=steps, **serving)
    return scene


def sharing(steps: list[dict[str, int]] | None = None, **serving: Any) -> Scene:
    """Returns a model whose canary gets the requests of its first step."""
    scene = started(steps, **serving)
    canary_answers(scene)
    gateway_follows(scene)
    assert progress(scene)["state"] == "Sharing"
    return scene


def change(
    scene: Scene, arguments: list[str] | None = None, steps: list[dict[str, int]] | None = None, **more: Any
) -> None:
    """Asks for a new version."""
    scene.edit(serving=asked(steps, extraArgs=NEW if arguments is None else arguments, **more))


def canary_answers(scene: Scene, replicas: int | None = None) -> None:
    scene.answer(replicas, name=CANARY)


def gateway_follows(scene: Scene) -> None:
    """Has the gateway take up the route as it is now."""
    route = scene.get("HTTPRoute")
    seen = route["metadata"]["generation"]
    condition = {"type": "Accepted", "status": "True", "observedGeneration": seen}
    scene.create(route | {"status": {"parents": [{"conditions": [condition]}]}})


def annotate(scene: Scene, name: str, value: str) -> None:
    scene.edit(annotations={f"ftm.dev/{name}": value})


def remove_annotations(scene: Scene) -> None:
    changed = copy.deepcopy(scene.resource())
    changed["metadata"]["annotations"] = {}
    scene.create(changed)


def canary_pod(scene: Scene, status: Manifest) -> None:
    """Has a pod of the canary's Deployment be in a state."""
    template = scene.get("Deployment", CANARY)["spec"]["template"]
    metadata = {"name": f"{CANARY}-0", "namespace": NAMESPACE, **template["metadata"]}
    scene.create({"kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status})


def progress(scene: Scene) -> Manifest:
    return dict(scene.status()["canary"])


def weights(scene: Scene) -> list[tuple[str, int | None]]:
    (rule,) = scene.get("HTTPRoute")["spec"]["rules"]
    return [(each["name"], each.get("weight")) for each in rule["backendRefs"]]


def versions(scene: Scene) -> list[tuple[str, int | None]]:
    return [(each["state"], each.get("weight")) for each in scene.status()["versions"]]


def keys(scene: Scene, state: str) -> list[str]:
    return [each["key"] for each in scene.status()["versions"] if each["state"] == state]


def arguments(scene: Scene, name: str = NAME) -> list[str]:
    found: list[str] = scene.get("Deployment", name)["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def has_canary(scene: Scene) -> bool:
    return any(name == CANARY for _, name in (*scene.cache.keys("Deployment"), *scene.cache.keys("Service")))
