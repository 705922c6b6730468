"""Requests for one name are divided over adapters by an InferenceModelRewrite, or the resource says what that takes."""

from typing import Any

import pytest

from tests.unit.operator.adapters import MODEL, AdapterScene, adapter, shared

GATEWAY = {
    "name": "public",
    "path": "/shared",
    "inferencePool": {"endpointPickerRef": {"name": "picker"}},
}
NAMES = [{"name": "billing", "targets": [{"adapter": "billing-v1", "weight": 90}, {"adapter": "billing-v2"}]}]
POOLS = frozenset({"HTTPRoute", "InferencePool", "gateway.networking.k8s.io", "inference.networking.k8s.io"})
KIND = "InferenceModelRewrite"


def divided(*apis: str, gateway: dict[str, Any] | None = None) -> AdapterScene:
    scene = shared(serving={"servedNames": NAMES, **({"gateway": gateway} if gateway else {})})
    scene.served_apis = POOLS | set(apis)
    for name in ("billing-v1", "billing-v2"):
        scene.create(adapter(name))
    scene.answer(name=MODEL)
    return scene


def ready(scene: AdapterScene) -> str:
    return scene.condition("Ready", MODEL).message


@pytest.mark.parametrize("group", ["llm-d.ai", "inference.networking.x-k8s.io"])
def test_one_name_is_divided_over_two_adapters_in_either_api_group(group: str) -> None:
    scene = divided(KIND, group, gateway=GATEWAY)
    made = scene.get(KIND, MODEL)
    assert made["apiVersion"] == f"{group}/v1alpha2"
    assert made["spec"] == {
        "poolRef": {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": MODEL},
        "rules": [
            {
                "matches": [{"model": {"type": "Exact", "value": "billing"}}],
                "targets": [
                    {"modelRewrite": "billing-v1", "weight": 90},
                    {"modelRewrite": "billing-v2", "weight": 1},
                ],
            }
        ],
    }
    assert scene.phase(MODEL) == "Ready"
    assert "servedNames" not in ready(scene)
    scene.edit(MODEL, serving={"gateway": GATEWAY})
    assert not scene.cache.keys(KIND)


def test_without_the_platforms_part_the_model_serves_and_says_what_weights_take() -> None:
    said = "requests for billing are not divided, and adapters answer to their own names: servedNames takes "
    scene = divided(KIND, "llm-d.ai")
    assert scene.phase(MODEL) == "Ready"
    assert f"{said}spec.serving.gateway.inferencePool, whose endpoint picker divides requests" in ready(scene)
    scene = divided(gateway=GATEWAY)
    assert scene.phase(MODEL) == "Ready"
    versions = "llm-d.ai/v1alpha2 or inference.networking.x-k8s.io/v1alpha2"
    assert f"{said}{KIND} ({versions}), which the cluster does not serve" in ready(scene)
    assert not scene.cache.keys(KIND)


def test_a_target_that_is_no_adapter_is_named() -> None:
    scene = divided(KIND, "llm-d.ai", gateway=GATEWAY)
    scene.delete("FineTunedAdapter", "billing-v2")
    assert "servedNames names billing-v2, and no FineTunedAdapter is served so" in ready(scene)
