"""A Job that fails is tried again where that may help, and otherwise stalls with the step's own sentence."""

from ftm_jobs.contract.steps import Outcome, Step
from tests.unit.operator.objects import pod_of, report, resource
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


def test_a_complete_job_whose_pod_is_gone_is_run_again() -> None:
    scene = scene_of()
    done = {"type": "Complete", "status": "True", "lastTransitionTime": scene.now.isoformat()}
    scene.create(scene.running_job("inspect") | {"status": {"conditions": [done]}})
    assert len(scene.jobs("inspect")) == 2


def test_a_waiting_pod_is_explained_in_the_schedulers_words() -> None:
    scene = scene_of()
    job = scene.running_job("inspect")
    words = "0/3 nodes are available: 3 Insufficient memory."
    condition = {"type": "PodScheduled", "status": "False", "message": words}
    scene.create(pod_of(job, {}, conditions=[condition]))
    ready = scene.condition("Ready")
    assert ready.message == f"Job {job['metadata']['name']} is pending: {words}"
