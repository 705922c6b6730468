"""A Gateway of the platform leads to a model: by an HTTPRoute to its Service, or to an InferencePool of its pods."""

from typing import Any

import pytest

from ftm_operator.reconcile.passes import Apply
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, resource
from tests.unit.operator.scene import Scene, scene_of

GATEWAY_API = frozenset(("HTTPRoute", "gateway.networking.k8s.io"))
BOTH = GATEWAY_API | {"InferencePool", "inference.networking.k8s.io"}
PICKER = {"inferencePool": {"endpointPickerRef": {"name": "epp"}}}


def asked(**gateway: Any) -> dict[str, Any]:
    return {"gateway": {"name": "public", "hostnames": ["models.example.com"], **gateway}}


def served(served_apis: frozenset[str] = BOTH, **serving: Any) -> Scene:
    scene = scene_of(resource(serving=serving))
    scene.served_apis = served_apis
    scene.reach("Deploying")
    scene.answer()
    return scene


def accepted(scene: Scene, status: str = "True", message: str = "Route is accepted") -> None:
    """Has the gateway's controller say what it makes of the route."""
    condition = {"type": "Accepted", "status": status, "message": message}
    parents = [{"parentRef": {"name": "public"}, "conditions": [condition]}]
    scene.create(scene.get("HTTPRoute") | {"status": {"parents": parents}})


def rule(scene: Scene) -> Manifest:
    (found,) = scene.get("HTTPRoute")["spec"]["rules"]
    return dict(found)


def test_a_route_leads_to_the_service() -> None:
    scene = served(**asked(namespace="gateways"), service={"port": 8080})
    spec = scene.get("HTTPRoute")["spec"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    assert spec["hostnames"] == ["models.example.com"]
    assert rule(scene) == {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": NAME, "port": 8080}],
    }
    assert scene.condition("Ready").message.endswith(f"no gateway has taken up HTTPRoute {NAME} yet")
    accepted(scene)
    assert scene.condition("Ready").message == "1 of 1 replicas answer"
    assert not scene.once().actions


def test_the_engine_does_not_see_the_beginning_of_the_path() -> None:
    scene = served(gateway={"name": "public", "path": "/support-bot"})
    assert "hostnames" not in scene.get("HTTPRoute")["spec"]
    assert rule(scene)["matches"] == [{"path": {"type": "PathPrefix", "value": "/support-bot"}}]
    rewritten = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    assert rule(scene)["filters"] == [{"type": "URLRewrite", "urlRewrite": rewritten}]


def test_a_pool_is_of_the_pods_that_answer_and_the_picker_is_the_platforms() -> None:
    scene = served(**asked(**PICKER))
    assert rule(scene)["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": NAME}
    ]
    assert scene.get("InferencePool")["spec"] == {
        "selector": {"matchLabels": scene.get("Service")["spec"]["selector"]},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}, "failureMode": "FailClose"},
    }
    scene.edit(serving=asked())
    assert rule(scene)["backendRefs"] == [{"name": NAME, "port": 80}]
    assert scene.applied[-2:] == [f"HTTPRoute {NAME}", f"delete InferencePool {NAME}"], "first nothing leads to it"


def test_a_gateway_that_is_no_longer_named_leads_here_no_longer() -> None:
    scene = served(**asked(**PICKER))
    scene.edit(serving={})
    assert not scene.cache.keys("HTTPRoute")
    assert not scene.cache.keys("InferencePool")


EXTENSION = (
    "install the Inference Extension (its CRDs and an endpoint picker), or remove spec.serving.gateway.inferencePool"
)


@pytest.mark.parametrize(
    ("served_apis", "gateway", "kind", "install"),
    [
        (
            frozenset(),
            {},
            "HTTPRoute (gateway.networking.k8s.io/v1)",
            "install the Gateway API (its CRDs and a gateway), or remove spec.serving.gateway",
        ),
        (
            GATEWAY_API,
            PICKER,
            "InferencePool (inference.networking.k8s.io/v1)",
            EXTENSION,
        ),
    ],
)
def test_what_the_cluster_lacks_is_refused_by_name_and_the_model_goes_on_serving(
    served_apis: frozenset[str], gateway: dict[str, Any], kind: str, install: str
) -> None:
    scene = served(served_apis, **asked(**gateway))
    said = f"spec.serving.gateway takes {kind}, which the cluster does not serve: {install}"
    assert (scene.stalled().reason, scene.stalled().message) == ("NoGateway", said)
    assert scene.condition("Available").status == "True"
    assert not scene.cache.keys("HTTPRoute")
    scene.served_apis = BOTH
    scene.settle()
    assert scene.phase() == "Ready"


def test_what_the_gateway_refuses_is_told() -> None:
    scene = served(**asked())
    accepted(scene, "False", "no listener lets routes of namespace team-a in")
    assert scene.condition("Ready").message == (
        f"1 of 1 replicas answer; Gateway public does not take HTTPRoute {NAME}: no listener lets routes of namespace "
        "team-a in"
    )


def test_a_route_of_somebody_else_is_not_taken() -> None:
    scene = served()
    metadata = {"name": NAME, "namespace": NAMESPACE, "labels": {"ftm.dev/name": NAME}}
    scene.put({"kind": "HTTPRoute", "metadata": metadata, "spec": {}})
    scene.put(resource(serving=asked()) | {"status": scene.status()})
    (action,) = [each for each in scene.once().actions if each.manifest["kind"] == "HTTPRoute"]
    assert isinstance(action, Apply)
    assert action.why == "absent", "it is found when it is to be made, and refused by its name"
