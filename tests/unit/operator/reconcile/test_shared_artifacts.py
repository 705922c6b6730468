"""Resources that need the same artifact share its merge; a lost artifact is found or built again."""

from typing import Any

from ftm_jobs.contract.steps import Step
from tests.unit.operator.objects import artifact_label, refusal, resource
from tests.unit.operator.scene import Scene, scene_of, serving


def test_two_resources_that_need_the_same_artifact_share_one_merge_and_say_so() -> None:
    scene = scene_of(resource("first"), resource("second"))
    for name in ("first", "second"):
        scene.reach("Merging", name)
    (merge,) = scene.jobs("merge")
    assert scene.once("second").effects.awaited_build == artifact_label(merge)
    ready = scene.condition("Ready", "second")
    assert ready.message.endswith("(shared with FineTunedModel first)")
    scene.merge()
    assert [scene.phase(name) for name in ("first", "second")] == ["Verifying"] * 2
    scene.verify()
    assert [scene.phase(name) for name in ("first", "second")] == ["Deploying"] * 2


def sharing(**second: Any) -> Scene:
    """Two resources that wait for one merge."""
    scene = scene_of(resource("first"), resource("second", **second))
    for name in ("first", "second"):
        scene.reach("Merging", name)
    return scene


def test_a_shared_merge_that_failed_by_the_others_credentials_is_tried_with_our_own_at_once() -> None:
    scene = sharing(base={"uri": "s3://models/base", "secretName": "second-s3"})
    scene.put_ending("merge", refusal(Step.MERGE, "AccessDenied", "first has no access"))
    scene.settle("first")
    scene.settle("second")
    assert (scene.phase("first"), scene.phase("second")) == ("Failed", "Merging")
    assert scene.running_job("merge")["metadata"]["ownerReferences"][0]["name"] == "second"
    scene.put_ending("merge", refusal(Step.MERGE, "AccessDenied", "second has none either"))
    scene.settle()
    assert len(scene.jobs("merge")) == 2
    assert [scene.stalled(name).message for name in ("first", "second")] == [
        "first has no access",
        "second has none either",
    ]


def test_resources_that_share_a_failing_step_share_its_delays() -> None:
    scene = sharing()
    for tries, delay in ((1, 60), (2, 120), (3, 240), (4, 480), (5, 600)):
        scene.refuse("merge", "AccessDenied", "no")
        assert [scene.stalled(name).message for name in ("first", "second")] == ["no", "no"]
        assert {scene.once(name).retry_after for name in ("first", "second")} == {delay}
        scene.later(delay - 1)
        assert not [job for job in scene.jobs("merge") if not job.get("status")]
        scene.later(1)
        assert scene.running_job("merge")["metadata"]["name"].endswith(f"-{tries + 1}")
    scene.merge()
    assert [scene.phase(name) for name in ("first", "second")] == ["Verifying"] * 2


def test_the_same_artifact_in_another_store_is_another_merge() -> None:
    scene = scene_of(resource("first"), resource("second", artifacts={"uri": "s3://elsewhere/built"}))
    for name in ("first", "second"):
        scene.reach("Merging", name)
    assert len(scene.jobs("merge")) == 2


def test_an_artifact_that_cannot_be_fetched_stalls_with_the_fetchers_sentence() -> None:
    scene = serving()
    scene.refuse_fetch("CorruptArtifact", "model.safetensors: sha256 differs")
    stalled = scene.stalled()
    assert stalled.reason == "CorruptArtifact"
    assert "model.safetensors: sha256 differs" in stalled.message


def test_an_artifact_deleted_from_its_store_is_built_again_once() -> None:
    scene = serving()
    scene.later(3600)
    scene.refuse_fetch("SourceNotFound", "nothing there")
    assert scene.phase() == "Merging"
    assert "artifacts" not in scene.status()
    scene.later(10)
    scene.merge()
    assert scene.phase() == "Failed", "the pod has not tried again yet"
    assert len(scene.jobs("merge")) == 1
    scene.answer()
    assert scene.phase() == "Ready"


def test_an_artifact_is_found_again_although_status_was_lost() -> None:
    scene = serving()
    scene.create({key: value for key, value in scene.resource().items() if key != "status"})
    assert (scene.phase(), len(scene.jobs("merge"))) == ("Ready", 1)
