"""A status that an earlier version wrote keeps its meaning: nothing is built again because a field has a new name."""

from typing import Any

from ftm_operator.api.crd import crd
from ftm_operator.api.custom_resources import FINE_TUNED_MODEL
from ftm_operator.api.status import FORMER_NAMES
from tests.unit.operator.objects import resource
from tests.unit.operator.scene import Scene, scene_of


def with_former_names(status: dict[str, Any]) -> dict[str, Any]:
    """Returns the status as an earlier version would have written it."""
    return {
        **status,
        "sources": {"hash": status["sources"]["inputHash"]},
        "plan": {("by" if name == "inputHash" else name): value for name, value in status["plan"].items()},
        "artifacts": {
            {"quantizedInputHash": "quantizedBy", "verifiedInputHash": "verifiedBy"}.get(name, name): value
            for name, value in status["artifacts"].items()
        },
    }


def served() -> Scene:
    scene = scene_of(resource(quantization={"method": "GGUF"}))
    scene.reach("Ready")
    for step in ("inspect", "merge", "quantize", "verify"):
        for job in scene.jobs(step):
            scene.cache.remove("Job", (job["metadata"]["namespace"], job["metadata"]["name"]))
    return scene


def test_an_operator_that_was_upgraded_builds_nothing_again_and_writes_the_new_names() -> None:
    scene = served()
    status = scene.resource()["status"]
    scene.put(scene.resource() | {"status": with_former_names(status)})
    result = scene.once()
    assert result.actions == ()
    assert result.status == status


def test_an_api_server_keeps_the_former_names_until_they_are_read() -> None:
    schema = crd(FINE_TUNED_MODEL)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for place, former, name in FORMER_NAMES:
        owner = schema["properties"]["status"]
        for step in place:
            owner = owner["properties"][step]
        assert {former, name} <= owner["properties"].keys()
