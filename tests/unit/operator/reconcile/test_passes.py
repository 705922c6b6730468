"""The passes of one FineTunedModel from apply to Ready, and the rules that every one of them keeps."""

import copy
import dataclasses

from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import SETTINGS, facts, resource
from tests.unit.operator.scene import scene_of, serving


def test_a_new_resource_is_inspected_merged_and_served() -> None:
    scene = scene_of()
    assert scene.phase() == "Inspecting"
    scene.inspect()
    assert scene.phase() == "Merging"
    built = scene.merge()
    assert scene.phase() == "Verifying"
    measured = scene.verify()
    assert scene.phase() == "Deploying"
    scene.answer()
    status = scene.status()
    assert status["phase"] == "Ready"
    assert status["artifacts"]["merged"] == built.to_json()
    assert status["artifacts"]["report"] == measured.to_json()
    assert status["endpoint"] == "http://support-bot.team-a.svc/v1"
    applied = [kind.split()[0] for kind in scene.applied]
    assert applied == ["Job", "Job", "Job", "Service", "Deployment", "ControllerRevision"]
    assert scene.events == [
        "Normal Inspecting",
        "Normal Inspected",
        "Normal Merging",
        "Normal Merged",
        "Normal Verifying",
        "Normal Verified",
        "Normal RollingOut",
        "Normal Serving",
    ]


def test_nothing_changed_asks_for_nothing() -> None:
    scene = serving()
    scene.later(86400)
    result = scene.once()
    assert (result.actions, result.status, result.notices) == ((), None, ())


def test_the_status_names_the_installation_that_writes_it() -> None:
    scene = scene_of(settings=dataclasses.replace(SETTINGS, installation="ftm-system/ftm-operator"))
    scene.reach("Ready")
    assert scene.status()["managedBy"] == "ftm-system/ftm-operator"
    assert scene.once().status is None


def test_the_spec_and_the_resource_are_never_written() -> None:
    scene = scene_of()
    before = copy.deepcopy(scene.resource()["spec"])
    scene.reach("Ready")
    assert scene.resource()["spec"] == before
    assert not any(line.startswith("FineTunedModel") for line in scene.applied)


def test_merge_reads_what_was_inspected_and_is_held_to_its_digests() -> None:
    scene = scene_of()
    scene.inspect(facts(uri="hf://org/base@0123abc", digest="sha256:pinned"))
    assert scene.arguments("merge")[:3] == [
        "merge",
        "--base",
        "hf://org/base@0123abc,digest=sha256:pinned,credentials=/var/run/ftm/base/models-s3",
    ]


def test_a_resource_on_its_way_out_is_left_alone() -> None:
    scene = scene_of()
    going = copy.deepcopy(scene.resource())
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    scene.put(going)
    assert scene.once().actions == ()


def test_a_stored_resource_that_breaks_the_schema_stalls_and_recovers() -> None:
    scene = scene_of(resource(serving={"replicas": -1}))
    stalled = scene.stalled()
    assert stalled.reason == "InvalidSpec"
    assert "spec.serving.replicas" in stalled.message
    scene.edit(serving={"replicas": 1})
    assert scene.phase() == "Inspecting"


def test_without_a_store_it_says_which_field_to_set() -> None:
    bare = resource()
    del bare["spec"]["artifacts"]
    scene = scene_of(bare)
    stalled = scene.stalled()
    assert stalled.reason == "NoArtifactStore"


def test_the_installations_store_is_the_default() -> None:
    bare = resource()
    del bare["spec"]["artifacts"]
    settings = dataclasses.replace(SETTINGS, artifacts_uri="s3://ours/built", artifacts_secret_name="ours")
    scene = scene_of(bare, settings=settings)
    scene.reach("Merging")
    pod = scene.running_job("merge")["spec"]["template"]["spec"]
    assert "s3://ours/built,credentials=/var/run/ftm/artifacts/ours" in pod["containers"][0]["args"]
    assert {"secretName": "ours", "optional": True} in [volume.get("secret") for volume in pod["volumes"]]


def test_a_size_that_does_not_divide_the_heads_is_refused_with_the_valid_ones() -> None:
    scene = scene_of(resource(serving={"tensorParallelSize": 2}))
    scene.inspect()
    stalled = scene.stalled()
    assert stalled.reason == "AttentionHeads"
    assert stalled.message == (
        "spec.serving.tensorParallelSize 2: 9 attention heads do not divide by 2; valid sizes for this model are 1, 3"
    )
    assert not scene.jobs("merge")


def test_finished_jobs_are_kept_for_their_logs_but_only_a_few() -> None:
    scene = scene_of()
    for _ in range(5):
        scene.refuse("inspect", "AccessDenied", "no")
        scene.later(600)
    assert len([job for job in scene.jobs("inspect") if job.get("status")]) == 3


def test_every_status_on_the_way_keeps_the_rules_of_kstatus() -> None:
    scene = scene_of()
    seen = []
    for advance in (scene.inspect, scene.merge, scene.verify, scene.answer):
        seen.append(copy.deepcopy(scene.resource()))
        advance()
    seen.append(copy.deepcopy(scene.resource()))
    scene.edit(suspend=True)
    seen.append(copy.deepcopy(scene.resource()))
    scene.edit(suspend=False, base={"uri": "s3://models/none"})
    scene.refuse("inspect", "SourceNotFound", "none")
    seen.append(copy.deepcopy(scene.resource()))
    assert [violations(item) for item in seen] == [[]] * 7
    assert len({item["status"]["phase"] for item in seen}) == 7


def test_times_move_only_when_a_condition_does() -> None:
    scene = scene_of()
    first = scene.condition("Ready")
    scene.later(100)
    scene.inspect()
    second = scene.condition("Ready")
    assert first.reason != second.reason
    assert first.since == second.since
