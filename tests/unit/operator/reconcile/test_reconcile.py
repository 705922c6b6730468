"""The passes of one FineTunedModel, told as stories over a pure world."""

import copy
import dataclasses
from typing import Any

import pytest

from ftm_jobs.contract.steps import Outcome, Step
from tests.unit.operator.kstatus import violations
from tests.unit.operator.world import (
    NAMESPACE,
    SETTINGS,
    World,
    artifact_label,
    facts,
    pod_of,
    refusal,
    report,
    resource,
    world,
)


def phase(scene: World, name: str = "support-bot") -> str:
    return str(scene.resource(name)["status"]["phase"])


def deployment(scene: World) -> dict[str, Any]:
    found = scene.cache.get("Deployment", (NAMESPACE, "support-bot"))
    assert found is not None
    return found


def test_a_new_resource_is_inspected_merged_and_served() -> None:
    scene = world()
    scene.settle()
    assert phase(scene) == "Inspecting"
    scene.inspected()
    scene.settle()
    assert phase(scene) == "Merging"
    built = scene.merged()
    scene.settle()
    assert phase(scene) == "Verifying"
    measured = scene.verified()
    scene.settle()
    assert phase(scene) == "Deploying"
    scene.available()
    scene.settle()
    status = scene.resource()["status"]
    assert status["phase"] == "Ready"
    assert status["artifacts"]["merged"] == built.to_json()
    assert status["artifacts"]["report"] == measured.to_json()
    assert status["endpoint"] == "http://support-bot.team-a.svc/v1"
    assert [kind.split()[0] for kind in scene.applied] == ["Job", "Job", "Job", "Service", "Deployment"]
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
    scene = world()
    scene.serve()
    scene.later(86400)
    result = scene.once()
    assert (result.actions, result.status, result.notices) == ((), None, ())


def test_the_spec_and_the_resource_are_never_written() -> None:
    scene = world()
    before = copy.deepcopy(scene.resource()["spec"])
    scene.serve()
    assert scene.resource()["spec"] == before
    assert not any(line.startswith("FineTunedModel") for line in scene.applied)


def test_merge_reads_what_was_inspected_and_is_held_to_its_digests() -> None:
    scene = world()
    scene.settle()
    scene.inspected(facts(uri="hf://org/base@0123abc", digest="sha256:pinned"))
    scene.settle()
    arguments = scene.running_job("merge")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:3] == [
        "merge",
        "--base",
        "hf://org/base@0123abc,digest=sha256:pinned,credentials=/var/run/ftm/base/models-s3",
    ]


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
    scene = world()
    scene.serve()
    scene.edit(**change)
    scene.settle()
    assert len(scene.jobs("inspect")) == len(scene.jobs("merge")) == 1


def test_a_new_scale_merges_again_without_a_new_inspection() -> None:
    scene = world()
    scene.serve()
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/support", "scale": 0.5}])
    scene.settle()
    assert (len(scene.jobs("inspect")), len(scene.jobs("merge"))) == (1, 2)


def test_what_serves_is_untouched_until_its_successor_is_complete() -> None:
    scene = world()
    scene.serve()
    before = deployment(scene)
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/support-v2"}])
    scene.settle()
    assert scene.resource()["status"]["facts"] == facts().to_json(), "what serves is still described"
    scene.inspected(facts(digest="sha256:other"))
    scene.settle()
    assert deployment(scene) == before
    said = {one["type"]: one["status"] for one in scene.resource()["status"]["conditions"]}
    assert (said["Available"], said["Ready"]) == ("True", "False")
    scene.merged()
    scene.settle()
    scene.verified()
    scene.settle()
    assert deployment(scene) != before


def test_a_failed_build_leaves_what_serves_serving() -> None:
    scene = world()
    scene.serve()
    before = deployment(scene)
    scene.edit(adapters=[{"name": "support", "uri": "s3://models/adapters/broken"}])
    scene.settle()
    scene.end_job("inspect", refusal(Step.INSPECT, "AdapterMismatch", "tensor q_proj is (8, 4), should be (8, 8)"))
    scene.settle()
    assert (phase(scene), deployment(scene)) == ("Failed", before)


def test_wrong_input_stalls_with_the_steps_own_sentence_and_no_deployment() -> None:
    scene = world()
    scene.settle()
    sentence = (
        "s3://models/adapters/support/adapter_model.safetensors: tensor q_proj.lora_A is (8, 4), should be (8, 8)"
    )
    scene.end_job("inspect", refusal(Step.INSPECT, "AdapterMismatch", sentence))
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert (stalled["reason"], stalled["message"]) == ("AdapterMismatch", sentence)
    assert scene.events[-1] == "Warning AdapterMismatch"
    assert not any(line.startswith(("Deployment", "Service")) for line in scene.applied)


def test_a_corrected_manifest_recovers_by_itself() -> None:
    scene = world()
    scene.settle()
    scene.end_job("inspect", refusal(Step.INSPECT, "BucketNotFound", "bucket modles does not exist"))
    scene.settle()
    scene.edit(base={"uri": "s3://models/base"}, adapters=[{"name": "a", "uri": "s3://models/adapters/right"}])
    scene.settle()
    assert (phase(scene), scene.condition("Stalled")) == ("Inspecting", None)


def test_a_source_mended_in_place_is_found_by_the_next_attempt() -> None:
    scene = world()
    scene.settle()
    for tries, delay in ((1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (6, 600)):
        scene.end_job("inspect", refusal(Step.INSPECT, "AccessDenied", "no"))
        result = scene.settle()
        assert result.retry_after == delay, tries
        scene.later(delay - 1)
        scene.settle()
        assert phase(scene) == "Failed"
        scene.later(1)
        scene.settle()
        assert scene.running_job("inspect")["metadata"]["name"].endswith(f"-{tries + 1}")
    scene.inspected()
    scene.settle()
    assert phase(scene) == "Merging"


def test_a_changed_spec_is_acted_on_at_once_although_the_next_attempt_is_not_due() -> None:
    scene = world()
    scene.settle()
    scene.end_job("inspect", refusal(Step.INSPECT, "AccessDenied", "no"))
    scene.settle()
    assert phase(scene) == "Failed"
    scene.edit(base={"uri": "s3://models/base", "secretName": "the-right-one"})
    scene.settle()
    assert phase(scene) == "Inspecting"
    assert scene.running_job("inspect")["metadata"]["name"].endswith("-2")


def test_the_refresh_annotation_inspects_again() -> None:
    scene = world()
    scene.serve()
    scene.edit(annotations={"ftm.dev/refresh": "1"})
    scene.settle()
    assert len(scene.jobs("inspect")) == 2
    scene.inspected()
    scene.settle()
    assert (len(scene.jobs("merge")), phase(scene)) == (1, "Ready")


def test_a_failure_that_may_pass_is_not_stalled() -> None:
    scene = world()
    scene.settle()
    scene.end_job("inspect", report(Step.INSPECT, "StoreUnavailable", Outcome.FAILED, "503 from the store"))
    scene.settle()
    assert scene.condition("Stalled") is None
    reconciling = scene.condition("Reconciling")
    assert reconciling
    assert reconciling["message"] == "503 from the store"


def memory_limit(scene: World) -> str:
    container = scene.running_job("merge")["spec"]["template"]["spec"]["containers"][0]
    return str(container["resources"]["limits"]["memory"])


def test_a_job_that_ran_out_of_memory_is_tried_once_with_twice_as_much_and_then_says_what_to_raise() -> None:
    scene = world()
    scene.settle()
    scene.inspected()
    scene.settle()
    assert memory_limit(scene) == "4Gi"
    scene.end_job("merge", reason="OOMKilled", exitCode=137)
    scene.settle()
    assert scene.condition("Stalled") is None
    assert memory_limit(scene) == "8Gi"
    name = scene.running_job("merge")["metadata"]["name"]
    scene.end_job("merge", reason="OOMKilled", exitCode=137)
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["message"] == f"Job {name} ran out of memory at 8Gi; raise spec.jobs.resources.limits.memory"
    scene.later(3600)
    scene.settle()
    assert memory_limit(scene) == "8Gi"


def test_a_step_that_says_itself_that_memory_ran_out_gets_more_too() -> None:
    scene = world()
    scene.settle()
    scene.inspected()
    scene.settle()
    scene.end_job("merge", report(Step.MERGE, "OutOfMemory", Outcome.FAILED, "memory ran out"))
    scene.settle()
    assert memory_limit(scene) == "8Gi"


def test_memory_that_the_spec_sets_is_never_exceeded() -> None:
    scene = world(resource(jobs={"resources": {"limits": {"memory": "3Gi"}}}))
    scene.settle()
    scene.inspected()
    scene.settle()
    name = scene.running_job("merge")["metadata"]["name"]
    scene.end_job("merge", reason="OOMKilled", exitCode=137)
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["message"] == f"Job {name} ran out of memory at 3Gi; raise spec.jobs.resources.limits.memory"
    assert len(scene.jobs("merge")) == 1
    scene.later(3600)
    scene.settle()
    assert memory_limit(scene) == "3Gi"


def test_a_complete_job_whose_pod_is_gone_is_run_again() -> None:
    scene = world()
    scene.settle()
    done = {"type": "Complete", "status": "True", "lastTransitionTime": scene.now.isoformat()}
    scene.put(scene.running_job("inspect") | {"status": {"conditions": [done]}})
    scene.settle()
    assert len(scene.jobs("inspect")) == 2


def test_a_waiting_pod_is_explained_in_the_schedulers_words() -> None:
    scene = world()
    scene.settle()
    job = scene.running_job("inspect")
    words = "0/3 nodes are available: 3 Insufficient memory."
    condition = {"type": "PodScheduled", "status": "False", "message": words}
    scene.put(pod_of(job, {}, conditions=[condition]))
    scene.settle()
    ready = scene.condition("Ready")
    assert ready
    assert ready["message"] == f"Job {job['metadata']['name']} is pending: {words}"


def test_two_resources_that_need_the_same_artifact_share_one_merge_and_say_so() -> None:
    scene = world(resource("first"), resource("second"))
    for name in ("first", "second"):
        scene.settle(name)
        scene.inspected()
        result = scene.settle(name)
    (merge,) = scene.jobs("merge")
    assert result.waits_for == artifact_label(merge)
    ready = scene.condition("Ready", "second")
    assert ready
    assert ready["message"].endswith("(shared with FineTunedModel first)")
    scene.merged()
    for name in ("first", "second"):
        scene.settle(name)
        assert phase(scene, name) == "Verifying"
    scene.verified()
    for name in ("first", "second"):
        scene.settle(name)
        assert phase(scene, name) == "Deploying"


def test_a_shared_merge_that_failed_by_the_others_credentials_is_tried_with_our_own() -> None:
    scene = world(resource("first"), resource("second"))
    for name in ("first", "second"):
        scene.settle(name)
        scene.inspected()
        scene.settle(name)
    scene.end_job("merge", refusal(Step.MERGE, "AccessDenied", "first has no access"))
    scene.settle("first")
    scene.settle("second")
    assert (phase(scene, "first"), phase(scene, "second")) == ("Failed", "Merging")
    assert scene.running_job("merge")["metadata"]["ownerReferences"][0]["name"] == "second"


def test_the_same_artifact_in_another_store_is_another_merge() -> None:
    scene = world(resource("first"), resource("second", artifacts={"uri": "s3://elsewhere/built"}))
    for name in ("first", "second"):
        scene.settle(name)
        scene.inspected()
        scene.settle(name)
    assert len(scene.jobs("merge")) == 2


def test_a_size_that_does_not_divide_the_heads_is_refused_with_the_valid_ones() -> None:
    scene = world(resource(serving={"tensorParallelSize": 2}))
    scene.settle()
    scene.inspected()
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["reason"] == "AttentionHeads"
    assert stalled["message"] == (
        "spec.serving.tensorParallelSize 2: 9 attention heads do not divide by 2; valid sizes for this model are 1, 3"
    )
    assert not scene.jobs("merge")


def test_without_a_store_it_says_which_field_to_set() -> None:
    bare = resource()
    del bare["spec"]["artifacts"]
    scene = world(bare)
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["reason"] == "NoArtifactStore"


def test_the_installations_store_is_the_default() -> None:
    bare = resource()
    del bare["spec"]["artifacts"]
    settings = dataclasses.replace(SETTINGS, artifacts_uri="s3://ours/built", artifacts_secret_name="ours")
    scene = world(bare, settings=settings)
    scene.settle()
    scene.inspected()
    scene.settle()
    pod = scene.running_job("merge")["spec"]["template"]["spec"]
    assert "s3://ours/built,credentials=/var/run/ftm/artifacts/ours" in pod["containers"][0]["args"]
    assert {"secretName": "ours", "optional": True} in [volume.get("secret") for volume in pod["volumes"]]


def test_suspend_starts_nothing_and_stops_nothing() -> None:
    scene = world()
    scene.serve()
    before = deployment(scene)
    scene.edit(suspend=True, adapters=[{"name": "support", "uri": "s3://models/adapters/support-v2"}])
    scene.settle()
    assert (phase(scene), deployment(scene), len(scene.jobs("inspect"))) == ("Suspended", before, 1)
    scene.edit(suspend=False)
    scene.settle()
    assert phase(scene) == "Inspecting"


def test_drift_is_repaired_and_named() -> None:
    scene = world()
    scene.serve()
    changed = copy.deepcopy(deployment(scene))
    changed["spec"]["replicas"] = 5
    scene.put(changed)
    (action,) = scene.once().actions
    assert action.why == "spec.replicas: 5, should be 1"  # type: ignore[union-attr]


def test_a_name_that_somebody_else_holds_is_not_taken() -> None:
    scene = world()
    scene.put(
        {"kind": "Deployment", "metadata": {"name": "support-bot", "namespace": NAMESPACE}, "spec": {"replicas": 1}}
    )
    before = deployment(scene)
    scene.settle()
    scene.inspected()
    scene.settle()
    scene.merged()
    scene.settle()
    scene.verified()
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["reason"] == "NameTaken"
    assert deployment(scene) == before


def test_a_stored_resource_that_breaks_the_schema_stalls_and_recovers() -> None:
    scene = world(resource(serving={"replicas": -1}))
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["reason"] == "InvalidSpec"
    assert "spec.serving.replicas" in stalled["message"]
    scene.edit(serving={"replicas": 1})
    scene.settle()
    assert phase(scene) == "Inspecting"


def test_a_resource_on_its_way_out_is_left_alone() -> None:
    scene = world()
    going = copy.deepcopy(scene.resource())
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    scene.put(going)
    assert scene.once().actions == ()


def test_finished_jobs_are_kept_for_their_logs_but_only_a_few() -> None:
    scene = world()
    scene.settle()
    for _ in range(5):
        scene.end_job("inspect", refusal(Step.INSPECT, "AccessDenied", "no"))
        scene.settle()
        scene.later(600)
        scene.settle()
    assert len([job for job in scene.jobs("inspect") if job.get("status")]) == 3


def refused_fetch(scene: World, reason: str, sentence: str) -> None:
    """A serving pod's fetch container has ended with a refusal, now."""
    scene.available(replicas=0)
    template = deployment(scene)["spec"]["template"]
    told = refusal(Step.FETCH, reason, sentence).termination_message()
    ended = {"terminated": {"message": told, "finishedAt": scene.moment()}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    statuses = [{"name": "fetch", "ready": False, "state": waiting, "lastState": ended}]
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": NAMESPACE, **template["metadata"]}}
    scene.put({**pod, "status": {"initContainerStatuses": statuses}})


def test_an_artifact_that_cannot_be_fetched_stalls_with_the_fetchers_sentence() -> None:
    scene = world()
    scene.serve()
    refused_fetch(scene, "CorruptArtifact", "model.safetensors: sha256 differs")
    scene.settle()
    stalled = scene.condition("Stalled")
    assert stalled
    assert stalled["reason"] == "CorruptArtifact"
    assert "model.safetensors: sha256 differs" in stalled["message"]


def test_an_artifact_deleted_from_its_store_is_built_again_once() -> None:
    scene = world()
    scene.serve()
    scene.later(3600)
    refused_fetch(scene, "SourceNotFound", "nothing there")
    scene.settle()
    assert phase(scene) == "Merging"
    assert "artifacts" not in scene.resource()["status"]
    scene.later(10)
    scene.merged()
    scene.settle()
    assert phase(scene) == "Failed", "the pod has not tried again yet"
    assert len(scene.jobs("merge")) == 1
    scene.available()
    scene.settle()
    assert phase(scene) == "Ready"


def test_an_artifact_is_found_again_although_status_was_lost() -> None:
    scene = world()
    scene.serve()
    scene.put({key: value for key, value in scene.resource().items() if key != "status"})
    scene.settle()
    assert (phase(scene), len(scene.jobs("merge"))) == ("Ready", 1)


def test_every_status_on_the_way_keeps_the_rules_of_kstatus() -> None:
    scene = world()
    seen = []
    for advance in (scene.inspected, scene.merged, scene.verified, scene.available):
        scene.settle()
        seen.append(copy.deepcopy(scene.resource()))
        advance()
    scene.settle()
    seen.append(copy.deepcopy(scene.resource()))
    scene.edit(suspend=True)
    scene.settle()
    seen.append(copy.deepcopy(scene.resource()))
    scene.edit(suspend=False, base={"uri": "s3://models/none"})
    scene.settle()
    scene.end_job("inspect", refusal(Step.INSPECT, "SourceNotFound", "none"))
    scene.settle()
    seen.append(copy.deepcopy(scene.resource()))
    assert [violations(item) for item in seen] == [[]] * 7
    assert len({item["status"]["phase"] for item in seen}) == 7


def test_times_move_only_when_a_condition_does() -> None:
    scene = world()
    scene.settle()
    first = scene.condition("Ready")
    scene.later(100)
    scene.inspected()
    scene.settle()
    second = scene.condition("Ready")
    assert first
    assert second
    assert first["reason"] != second["reason"]
    assert first["lastTransitionTime"] == second["lastTransitionTime"]
