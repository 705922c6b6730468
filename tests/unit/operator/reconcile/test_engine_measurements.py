"""An engine that starts is measured once, from its log; the figures correct later plans and no present one."""

from dataclasses import replace

from ftm_jobs.contract.byte_counts import GIB
from ftm_operator.reconcile.engine_feedback import EngineMemory
from ftm_operator.reconcile.passes import Result
from tests.unit.operator.objects import resource
from tests.unit.operator.reconcile.engines import SERVING, TOLD, answering, deploying
from tests.unit.operator.scene import scene_of


def test_a_pod_that_answers_is_listened_to_and_what_it_measured_comes_into_the_plan() -> None:
    scene = answering(deploying())
    asked = scene.awaited_log()
    assert asked
    assert (asked.pod.startswith("support-bot-"), asked.failed) == (True, False)
    scene.engine_logs(EngineMemory(measured=TOLD))
    measured = scene.plan()["measured"]
    assert {name: measured[name] for name in TOLD.to_json()} == TOLD.to_json()


def test_a_log_is_asked_for_no_more_once_it_was_heard_and_nothing_is_written_twice() -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD))
    assert scene.once() == Result()


def test_as_long_as_a_log_says_nothing_nothing_is_written() -> None:
    scene = answering(deploying())
    result = scene.once()
    assert (result.actions, result.status, result.notices, result.effects.measurements) == ((), None, (), ())


def test_what_was_measured_is_kept_beside_the_estimate_without_its_correction() -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD))
    (kept,) = scene.measurements.values()
    assert (kept.accelerator, kept.tensor_parallel, kept.pipeline_parallel, kept.engine) == ("A10G", 1, 1, "vllm:1")
    assert kept.artifact == scene.status()["artifacts"]["merged"]["key"]
    assert (kept.estimated_bytes, kept.measured_bytes) == (scene.plan()["memory"]["kvCache"], 5 * GIB)


def test_what_serves_is_not_moved_by_what_was_measured_but_the_next_plan_is_corrected() -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD.model_copy(update={"kv_cache_bytes": 4 * GIB})))
    assert scene.plan()["memory"].get("measuredCorrection") is None
    estimated = scene.plan()["memory"]["kvCache"]
    scene.edit(serving={**SERVING, "maxModelLen": 2048})
    assert scene.plan()["memory"]["measuredCorrection"] == estimated - 4 * GIB
    assert scene.plan()["memory"]["kvCache"] == 4 * GIB


def test_another_model_of_the_same_artifact_is_corrected_at_its_first_plan() -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD))
    scene.create(resource("second", serving=SERVING))
    scene.inspect(name="second")
    assert scene.plan("second")["memory"]["kvCache"] == 5 * GIB


def test_another_engine_is_measured_anew_and_not_corrected_by_the_old_one() -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD))
    scene.settings = replace(scene.settings, vllm_image="vllm:2", rollout_on_upgrade=True)
    scene.settle()
    answering(scene)
    scene.engine_logs(EngineMemory(measured=TOLD.model_copy(update={"kv_cache_tokens": 1})))
    assert scene.plan()["measured"]["kvCacheTokens"] == 1
    assert {each.engine for each in scene.measurements.values()} == {"vllm:1", "vllm:2"}


def test_without_a_known_gpu_the_measurement_is_shown_and_not_kept() -> None:
    scene = answering(deploying(gpus=()))
    scene.engine_logs(EngineMemory(measured=TOLD))
    assert scene.plan()["measured"]["kvCacheTokens"] == 40_000
    assert scene.measurements == {}


def test_a_pod_of_an_earlier_template_is_not_listened_to() -> None:
    scene = answering(deploying())
    asked = scene.awaited_log()
    assert asked
    old = scene.get("Pod", asked.pod)
    scene.put({**old, "metadata": {**old["metadata"], "annotations": {"ftm.dev/pod-template": "other"}}})
    assert scene.awaited_log() is None


def test_llama_cpp_is_not_listened_to() -> None:
    scene = scene_of(resource(serving={"engine": "LlamaCpp", "device": "CPU"}))
    scene.reach("Ready")
    answering(scene)
    assert scene.phase() == "Ready"
    assert scene.awaited_log() is None
