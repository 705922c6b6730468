"""A changed spec runs the steps that depend on it and no others, and never takes down the model that serves."""

from typing import Any

import pytest

from tests.unit.operator.objects import facts
from tests.unit.operator.scene import scene_of, serving


@pytest.mark.parametrize(
    "change",
    [
        {"serving": {"replicas": 3}},
        {"serving": {"maxModelLen": 1024}},
        {"serving": {"servedModelName": "other"}},
        {"jobs": {"activeDeadlineSeconds": 600}},
    ],
)
def test_changing_how_a_model_is_served_builds_nothing(change: dict[str, Any]) -> None:
    scene = serving()
    scene.edit(**change)
    assert len(scene.jobs("inspect")) == len(scene.jobs("merge")) == 1


def test_a_new_scale_merges_again_without_a_new_inspection() -> None:
    scene = serving()
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/support", "scale": 0.5}])
    assert (len(scene.jobs("inspect")), len(scene.jobs("merge"))) == (1, 2)


def test_what_serves_is_untouched_until_its_successor_is_complete() -> None:
    scene = serving()
    before = scene.get("Deployment")
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/support-v2"}])
    assert scene.status()["facts"] == facts().to_json(), "what serves is still described"
    scene.inspect(facts(digest="sha256:other"))
    assert scene.get("Deployment") == before
    assert (scene.condition("Available").status, scene.condition("Ready").status) == ("True", "False")
    scene.merge()
    scene.verify()
    assert scene.get("Deployment") != before


def test_a_failed_build_leaves_what_serves_serving() -> None:
    scene = serving()
    before = scene.get("Deployment")
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/broken"}])
    scene.refuse("inspect", "AdapterMismatch", "tensor q_proj is (8, 4), should be (8, 8)")
    assert (scene.phase(), scene.get("Deployment")) == ("Failed", before)


def test_a_corrected_manifest_recovers_by_itself() -> None:
    scene = scene_of()
    scene.refuse("inspect", "BucketNotFound", "bucket modles does not exist")
    scene.edit(base={"uri": "s3://models/base"}, adapters=[{"name": "a", "uri": "s3://models/adapters/right"}])
    assert scene.phase() == "Inspecting"
    assert not scene.is_stalled()


def test_a_changed_spec_is_acted_on_at_once_although_the_next_attempt_is_not_due() -> None:
    scene = scene_of()
    scene.refuse("inspect", "AccessDenied", "no")
    assert scene.phase() == "Failed"
    scene.edit(base={"uri": "s3://models/base", "secretName": "the-right-one"})
    assert scene.phase() == "Inspecting"
    assert scene.running_job("inspect")["metadata"]["name"].endswith("-2")


def test_the_refresh_annotation_inspects_again() -> None:
    scene = serving()
    scene.edit(annotations={"ftm.dev/refresh": "1"})
    assert len(scene.jobs("inspect")) == 2
    scene.inspect()
    assert (len(scene.jobs("merge")), scene.phase()) == (1, "Ready")


def test_suspend_stops_what_is_built_and_it_goes_on_afterwards() -> None:
    scene = scene_of()
    scene.reach("Merging")
    ended = len(scene.jobs("inspect"))
    scene.edit(suspend=True)
    assert (scene.phase(), scene.jobs("merge"), len(scene.jobs("inspect"))) == ("Suspended", [], ended)
    scene.edit(suspend=False)
    scene.merge()
    assert scene.phase() == "Verifying"


def test_suspend_starts_nothing_and_leaves_what_serves() -> None:
    scene = serving()
    before = scene.get("Deployment")
    scene.edit(suspend=True, adapters=[{"name": "support", "uri": "s3://models/adapters/support-v2"}])
    assert (scene.phase(), scene.get("Deployment"), len(scene.jobs("inspect"))) == ("Suspended", before, 1)
    scene.edit(suspend=False)
    assert scene.phase() == "Inspecting"


def test_more_remarks_than_status_has_room_for_are_not_refused_by_the_api_server() -> None:
    scene = scene_of()
    scene.inspect(notes=tuple(map(str, range(70))))
    assert len(scene.status()["sources"]["notes"]) == 64


def test_remarks_on_the_sources_are_in_status_and_stay_while_the_sources_do() -> None:
    scene = scene_of()
    scene.inspect(notes=("left out: onnx/", "two", "three", "four"))
    assert scene.status()["sources"]["notes"] == ["left out: onnx/", "two", "three", "four"]
    assert scene.condition("Inspected").message.endswith("; left out: onnx/; two; three")
    scene.reach("Ready")
    scene.edit(serving={"replicas": 3})
    assert scene.condition("Inspected").message.endswith("; left out: onnx/; two; three")
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/other"}])
    scene.inspect(facts(digest="sha256:other"))
    assert "notes" not in scene.status()["sources"]
