"""Serving pods are labelled with their engine, and an engine that follows another takes no request away."""

import copy
from typing import Any

from tests.unit.operator.objects import NAMESPACE, resource
from tests.unit.operator.scene import Scene, scene_of


def served(**spec: Any) -> Scene:
    scene = scene_of(resource(**spec))
    scene.reach("Ready")
    return scene


def labels_of_pods(scene: Scene) -> dict[str, str]:
    labels: dict[str, str] = scene.get("Deployment")["spec"]["template"]["metadata"]["labels"]
    return labels


def test_pods_carry_the_name_of_their_engine() -> None:
    assert labels_of_pods(served())["app.kubernetes.io/name"] == "vllm"
    assert labels_of_pods(served(serving={"device": "CPU"}))["app.kubernetes.io/name"] == "llama-server"


def test_no_selector_of_a_deployment_holds_an_engine() -> None:
    for spec in ({}, {"serving": {"device": "CPU"}}):
        selector = served(**spec).get("Deployment")["spec"]["selector"]["matchLabels"]
        assert selector == {"ftm.dev/step": "serve", "ftm.dev/name": "support-bot"}


def test_the_deployment_of_an_earlier_version_keeps_its_selector_and_its_pods() -> None:
    scene = served(serving={"device": "CPU"})
    earlier = {"app.kubernetes.io/name": "vllm", "ftm.dev/name": "support-bot"}
    live = copy.deepcopy(scene.get("Deployment"))
    live["spec"]["selector"]["matchLabels"] = earlier
    live["spec"]["template"]["metadata"]["labels"].update(earlier)
    scene.create(live)
    after = scene.get("Deployment")
    assert after["spec"]["selector"]["matchLabels"] == earlier
    assert earlier.items() <= after["spec"]["template"]["metadata"]["labels"].items()
    assert scene.get("Service")["spec"]["selector"] == {**earlier, "ftm.dev/step": "serve"}


def test_while_one_engine_follows_another_the_service_selects_the_pods_of_both() -> None:
    scene = served()
    assert scene.get("Service")["spec"]["selector"]["app.kubernetes.io/name"] == "vllm"
    before = set(scene.cache.keys("Pod"))
    scene.serving_pod({"running": {}}, ready=True)
    ((_, pod),) = set(scene.cache.keys("Pod")) - before
    old = scene.get("Pod", pod)
    scene.edit(serving={"device": "CPU"})
    scene.reach("Deploying")
    selector = scene.get("Service")["spec"]["selector"]
    assert selector.items() <= old["metadata"]["labels"].items()
    assert selector.items() <= labels_of_pods(scene).items()
    scene.cache.remove("Pod", (NAMESPACE, pod))
    scene.settle()
    selector = scene.get("Service")["spec"]["selector"]
    own = {"app.kubernetes.io/name": "llama-server", "ftm.dev/name": "support-bot", "ftm.dev/step": "serve"}
    assert selector == own
    assert scene.status()["selector"] == ",".join("=".join(label) for label in own.items())
