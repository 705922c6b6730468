"""A Job that fails is tried again where that may help, and otherwise stalls with the step's own sentence."""

import dataclasses
from datetime import datetime, timedelta

import pytest

from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.observe.first_seen import FirstSeen
from ftm_operator.observe.job_state import Broken, Due, Wanted, job_state
from tests.unit.operator.jobs import inspect_job
from tests.unit.operator.namespace import START
from tests.unit.operator.objects import Manifest, pod_of, report, resource
from tests.unit.operator.scene import Scene, scene_of


def test_wrong_input_stalls_with_the_steps_own_sentence_and_no_deployment() -> None:
    scene = scene_of()
    sentence = (
        "s3://models/adapters/support/adapter_model.safetensors: tensor q_proj.lora_A is (8, 4), should be (8, 8)"
    )
    scene.refuse("inspect", "AdapterMismatch", sentence)
    stalled = scene.stalled()
    assert (stalled.reason, stalled.message) == ("AdapterMismatch", sentence)
    assert scene.events[-1] == "Warning AdapterMismatch"
    assert not any(line.startswith(("Deployment", "Service")) for line in scene.applied)


def test_a_source_mended_in_place_is_found_by_the_next_attempt() -> None:
    scene = scene_of()
    for tries, delay in ((1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (6, 600)):
        scene.refuse("inspect", "AccessDenied", "no")
        assert scene.once().retry_after == delay, tries
        scene.later(delay - 1)
        assert scene.phase() == "Failed"
        scene.later(1)
        assert scene.running_job("inspect")["metadata"]["name"].endswith(f"-{tries + 1}")
    scene.inspect()
    assert scene.phase() == "Merging"


def test_a_failure_that_may_pass_is_not_stalled() -> None:
    scene = scene_of()
    scene.end_job("inspect", report(Step.INSPECT, "StoreUnavailable", Outcome.FAILED, "503 from the store"))
    assert not scene.is_stalled()
    reconciling = scene.condition("Reconciling")
    assert reconciling.message == "503 from the store"


def memory_limit(scene: Scene) -> str:
    return str(scene.container("merge")["resources"]["limits"]["memory"])


def test_a_job_that_ran_out_of_memory_is_tried_once_with_twice_as_much_and_then_says_what_to_raise() -> None:
    scene = scene_of()
    scene.reach("Merging")
    assert memory_limit(scene) == "4Gi"
    scene.run_out_of_memory("merge")
    assert not scene.is_stalled()
    assert memory_limit(scene) == "8Gi"
    name = scene.running_job("merge")["metadata"]["name"]
    scene.run_out_of_memory("merge")
    stalled = scene.stalled()
    assert stalled.message == f"Job {name} ran out of memory at 8Gi; raise spec.jobs.resources.limits.memory"
    scene.later(3600)
    assert memory_limit(scene) == "8Gi"


def test_a_step_that_says_itself_that_memory_ran_out_gets_more_too() -> None:
    scene = scene_of()
    scene.reach("Merging")
    scene.end_job("merge", report(Step.MERGE, "OutOfMemory", Outcome.FAILED, "memory ran out"))
    assert memory_limit(scene) == "8Gi"


def test_memory_that_the_spec_sets_is_never_exceeded() -> None:
    scene = scene_of(resource(jobs={"resources": {"limits": {"memory": "3Gi"}}}))
    scene.reach("Merging")
    name = scene.running_job("merge")["metadata"]["name"]
    scene.run_out_of_memory("merge")
    stalled = scene.stalled()
    assert stalled.message == f"Job {name} ran out of memory at 3Gi; raise spec.jobs.resources.limits.memory"
    assert len(scene.jobs("merge")) == 1
    scene.later(3600)
    assert memory_limit(scene) == "3Gi"


def complete_without_report(scene: Scene) -> None:
    done = {"type": "Complete", "status": "True", "lastTransitionTime": scene.now.isoformat()}
    scene.create(scene.running_job("inspect") | {"status": {"conditions": [done]}})


def test_a_complete_job_whose_pod_is_gone_is_run_again_and_then_with_delays() -> None:
    scene = scene_of()
    complete_without_report(scene)
    assert len(scene.jobs("inspect")) == 2
    for tries, delay in ((2, 60), (3, 120)):
        complete_without_report(scene)
        assert scene.condition("Ready").reason == "IncompleteReport"
        assert scene.once().retry_after == delay
        scene.later(delay)
        assert scene.running_job("inspect")["metadata"]["name"].endswith(f"-{tries + 1}")


def test_an_autoscalers_writes_do_not_shorten_a_delay() -> None:
    scene = scene_of()
    scene.refuse("inspect", "AccessDenied", "no")
    for replicas in range(2, 9):
        scene.edit(serving={"replicas": replicas})
    assert len(scene.jobs("inspect")) == 1
    assert scene.once().retry_after == 60


def test_what_a_corrected_spec_makes_is_tried_at_once_and_its_delays_begin_anew() -> None:
    scene = scene_of()
    for delay in (60, 120, 240):
        scene.refuse("inspect", "AccessDenied", "no")
        scene.later(delay)
    scene.refuse("inspect", "AccessDenied", "no")
    scene.edit(jobs={"serviceAccountName": "reader"})
    assert scene.running_job("inspect")["metadata"]["name"].endswith("-5")
    scene.refuse("inspect", "AccessDenied", "no")
    assert scene.once().retry_after == 60


def test_a_corrected_installation_is_followed_at_once() -> None:
    scene = scene_of()
    scene.refuse("inspect", "AccessDenied", "no")
    scene.settings = dataclasses.replace(scene.settings, jobs_image="jobs:mended")
    scene.settle()
    assert scene.container("inspect")["image"] == "jobs:mended"


def test_a_pending_job_makes_way_for_one_that_follows_the_spec() -> None:
    scene = scene_of(resource(jobs={"nodeSelector": {"disk": "none-has-this"}}))
    pending = scene.running_job("inspect")["metadata"]["name"]
    scene.edit(jobs={"nodeSelector": {"disk": "ssd"}})
    assert f"delete Job {pending}" in scene.applied
    (job,) = scene.jobs("inspect")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}


def test_a_running_job_goes_on_although_its_placement_was_changed() -> None:
    scene = scene_of()
    job = scene.running_job("inspect")
    scene.put(pod_of(job, {"running": {}}))
    scene.edit(jobs={"nodeSelector": {"disk": "ssd"}})
    assert scene.jobs("inspect") == [job]


def test_a_job_that_works_on_what_is_no_longer_asked_for_is_cancelled() -> None:
    scene = scene_of()
    superseded = scene.running_job("inspect")
    scene.put(pod_of(superseded, {"running": {}}))
    scene.edit(adapters=[{"name": "other", "uri": "s3://models/adapters/other"}])
    (job,) = scene.jobs("inspect")
    assert job["metadata"]["name"] != superseded["metadata"]["name"]


def test_jobs_that_a_former_resource_of_the_name_left_are_neither_taken_nor_in_the_way() -> None:
    scene = scene_of()
    orphan = scene.running_job("inspect")
    scene.put({**orphan, "metadata": {**orphan["metadata"], "ownerReferences": []}})
    scene.settle()
    own = [job for job in scene.jobs("inspect") if job["metadata"]["ownerReferences"]]
    assert [job["metadata"]["name"][-2:] for job in own] == ["-2"]


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_clock_that_is_a_day_off_neither_delays_by_a_day_nor_does_away_with_the_delay(skew: int) -> None:
    failed_at = START + timedelta(seconds=skew)
    condition = {"type": "Failed", "status": "True", "lastTransitionTime": failed_at.isoformat()}
    job = inspect_job(FineTunedModel.model_validate(resource())) | {"status": {"conditions": [condition]}}
    wanted = Wanted(
        job["metadata"]["annotations"]["ftm.dev/job-spec"],
        True,
        lambda _: True,
        False,
        "spec.jobs.resources.limits.memory",
    )
    first_seen = FirstSeen()

    def seen(job: Manifest) -> datetime:
        return first_seen.of(job, START)

    state = job_state([job | {"metadata": job["metadata"] | {"uid": "1"}}], [], START, wanted, seen)
    assert isinstance(state, Broken)
    assert state.retry_after == 60
    later = START + timedelta(seconds=60)
    assert isinstance(job_state([job | {"metadata": job["metadata"] | {"uid": "1"}}], [], later, wanted, seen), Due)


def test_a_waiting_pod_is_explained_in_the_schedulers_words() -> None:
    scene = scene_of()
    job = scene.running_job("inspect")
    words = "0/3 nodes are available: 3 Insufficient memory."
    condition = {"type": "PodScheduled", "status": "False", "message": words}
    scene.create(pod_of(job, {}, conditions=[condition]))
    ready = scene.condition("Ready")
    assert ready.message == f"Job {job['metadata']['name']} is pending: {words}"
