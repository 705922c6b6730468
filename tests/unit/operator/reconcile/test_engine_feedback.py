"""What an engine's start does to the plan, told as stories: measured once, or planned anew once and then told."""

from dataclasses import replace
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import Measured
from ftm_operator.planning.engine_log import Lack
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.planning.memory.reserves import GIB
from ftm_operator.reconcile.engine_feedback import EngineLog, Heard
from ftm_operator.reconcile.passes import Result
from tests.unit.operator.kstatus import violations
from tests.unit.operator.planning.catalogue import base_facts_of
from tests.unit.operator.world import NAMESPACE, World, adapter_facts, resource, world

MISTRAL = Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),))
A10G = tuple(declared_classes([{"name": "A10G", "perNode": 4}]))
ONE_A10G = tuple(declared_classes([{"name": "A10G", "perNode": 1}]))
SERVING = {"dtype": "float16", "maxModelLen": 4096}
TOLD = Measured(weight_bytes=13 * GIB, kv_cache_bytes=5 * GIB, kv_cache_tokens=40_000, max_concurrency=9.77)
TOO_LITTLE = (
    "ValueError: To serve at least one request with the model's max seq len (4096), (0.5 GiB KV cache is needed, which "
    "is larger than the available KV cache memory (0.25 GiB)."
)
CRASHED = {"waiting": {"reason": "CrashLoopBackOff"}}


def ended(message: str = TOO_LITTLE) -> dict[str, Any]:
    return {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}


def deploying(gpus: tuple[AcceleratorClass, ...] = A10G, **serving: Any) -> World:
    """A model whose Deployment has just been made, on one A10G unless `serving` says otherwise."""
    scene = world(resource(serving={**SERVING, **serving}))
    scene.accelerators = gpus
    scene.settle()
    scene.inspected(MISTRAL)
    scene.settle()
    scene.merged()
    scene.settle()
    scene.verified()
    scene.settle()
    return scene


def serving(scene: World) -> World:
    scene.available()
    scene.serving_pod({"running": {}}, ready=True)
    scene.settle()
    return scene


def plan(scene: World) -> dict[str, Any]:
    found: dict[str, Any] = scene.resource()["status"]["plan"]
    return found


def stalled(scene: World) -> str:
    condition = scene.condition("Stalled")
    assert condition
    assert condition["reason"] == "EngineOutOfMemory"
    assert not violations(scene.resource())
    return str(condition["message"])


def log_of(scene: World) -> EngineLog:
    asked = scene.once().listens
    assert asked
    return asked


# --- harvest --------------------------------------------------------------------------------------


def test_a_pod_that_answers_is_listened_to_and_what_it_measured_comes_into_the_plan() -> None:
    scene = serving(deploying())
    asked = log_of(scene)
    assert (asked.pod.startswith("support-bot-"), asked.failed) == (True, False)
    scene.heard[asked] = Heard(measured=TOLD)
    scene.settle()
    measured = plan(scene)["measured"]
    assert {name: measured[name] for name in TOLD.to_json()} == TOLD.to_json()


def test_a_log_is_asked_for_no_more_once_it_was_heard_and_nothing_is_written_twice() -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    assert scene.once() == Result()


def test_as_long_as_a_log_says_nothing_nothing_is_written() -> None:
    scene = serving(deploying())
    result = scene.once()
    assert (result.actions, result.status, result.notices, result.measurements) == ((), None, (), ())


def test_what_was_measured_is_kept_beside_the_estimate_without_its_correction() -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    (kept,) = scene.measurements.values()
    assert (kept.accelerator, kept.tensor_parallel, kept.pipeline_parallel, kept.engine) == ("A10G", 1, 1, "vllm:1")
    assert kept.artifact == scene.resource()["status"]["artifacts"]["merged"]["key"]
    assert (kept.estimated_bytes, kept.measured_bytes) == (plan(scene)["memory"]["kvCache"], 5 * GIB)


def test_what_serves_is_not_moved_by_what_was_measured_but_the_next_plan_is_corrected() -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD.model_copy(update={"kv_cache_bytes": 4 * GIB}))
    scene.settle()
    assert plan(scene)["memory"].get("measuredCorrection") is None
    estimated = plan(scene)["memory"]["kvCache"]
    scene.edit(serving={**SERVING, "maxModelLen": 2048})
    scene.settle()
    assert plan(scene)["memory"]["measuredCorrection"] == estimated - 4 * GIB
    assert plan(scene)["memory"]["kvCache"] == 4 * GIB


def test_another_model_of_the_same_artifact_is_corrected_at_its_first_plan() -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    scene.put(resource("second", serving=SERVING))
    scene.settle("second")
    scene.inspected(MISTRAL)
    scene.settle("second")
    assert scene.resource("second")["status"]["plan"]["memory"]["kvCache"] == 5 * GIB


def test_another_engine_is_measured_anew_and_not_corrected_by_the_old_one() -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    scene.settings = replace(scene.settings, vllm_image="vllm:2")
    scene.settle()
    serving(scene)
    asked = log_of(scene)
    scene.heard[asked] = Heard(measured=TOLD.model_copy(update={"kv_cache_tokens": 1}))
    scene.settle()
    assert plan(scene)["measured"]["kvCacheTokens"] == 1
    assert {each.engine for each in scene.measurements.values()} == {"vllm:1", "vllm:2"}


def test_without_a_known_gpu_the_measurement_is_shown_and_not_kept() -> None:
    scene = serving(deploying(gpus=()))
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    assert plan(scene)["measured"]["kvCacheTokens"] == 40_000
    assert scene.measurements == {}


def test_a_pod_of_an_earlier_template_is_not_listened_to() -> None:
    scene = serving(deploying())
    old = scene.cache.get("Pod", (NAMESPACE, log_of(scene).pod))
    assert old
    scene.put({**old, "metadata": {**old["metadata"], "annotations": {"ftm.dev/pod-template": "other"}}})
    assert scene.once().listens is None


def test_llama_cpp_is_not_listened_to() -> None:
    scene = world(resource(serving={"engine": "LlamaCpp", "device": "CPU"}))
    scene.settle()
    scene.inspected()
    scene.settle()
    scene.merged()
    scene.settle()
    scene.quantized()
    scene.settle()
    scene.verified()
    scene.settle()
    serving(scene)
    assert scene.condition("Ready")
    assert scene.once().listens is None


# --- a start that fails ---------------------------------------------------------------------------


def test_an_engine_that_lacks_memory_is_planned_anew_once() -> None:
    scene = deploying()
    assert plan(scene)["gpus"] == 1
    planned = plan(scene)["memory"]["kvCache"]
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    assert plan(scene)["gpus"] == 2
    assert plan(scene)["shortage"] == {
        "acceleratorClass": "A10G",
        "tensorParallelSize": 1,
        "pipelineParallelSize": 1,
        "plannedBytes": planned,
        "foundBytes": GIB // 4,
        "correctionBytes": planned - GIB // 4,
    }
    assert plan(scene)["reasons"][-1] == (
        f"vLLM found 0.25 GiB for the KV cache on A10G where {planned / GIB:.2f} GiB were planned; planned anew: "
        "2 x A10G, 4096 tokens of context"
    )
    assert scene.applied[-2:] == ["Deployment support-bot"] * 2
    assert scene.events[-2:] == ["Normal EngineOutOfMemory", "Normal RollingOut"]
    assert scene.condition("Stalled") is None


def test_a_second_failure_stalls_with_both_numbers_and_what_to_do() -> None:
    scene = deploying()
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    planned = plan(scene)["memory"]["kvCache"] / GIB
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    assert stalled(scene) == (
        f"vLLM found 0.25 GiB for the KV cache on each A10G where {planned:.2f} GiB were planned; set "
        "spec.serving.maxModelLen below 4096, offer a larger GPU, or raise spec.serving.gpuMemoryUtilization of 0.92"
    )
    assert plan(scene)["gpus"] == 2
    scene.later(86_400)
    result = scene.once()
    assert (result.actions, result.status, result.notices) == ((), None, ())


def test_it_stays_stalled_while_the_engine_is_tried_again_and_recovers_if_it_starts() -> None:
    scene = deploying(ONE_A10G)
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    scene.serving_pod({"running": {}}, lastState=ended())
    assert scene.once() == Result(measurements=scene.once().measurements)
    scene.available()
    scene.serving_pod({"running": {}}, ready=True, lastState=ended())
    scene.settle()
    assert scene.resource()["status"]["phase"] == "Ready"


def test_where_nothing_else_fits_it_stalls_at_once_and_says_what_would() -> None:
    scene = deploying(ONE_A10G)
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    message = stalled(scene)
    assert message.startswith("vLLM found 0.25 GiB for the KV cache on A10G where ")
    assert "no other plan fits: A10G, tensor-parallel size 1: each GPU needs" in message
    assert "shortage" not in plan(scene)


def test_last_words_that_end_in_the_servers_own_traceback_are_looked_up_in_the_log() -> None:
    scene = deploying()
    scene.serving_pod(
        CRASHED, lastState=ended("RuntimeError: Engine core initialization failed. See root cause above.")
    )
    scene.settle()
    asked = log_of(scene)
    assert (asked.failed, asked.previous) == (True, True)
    assert plan(scene)["gpus"] == 1
    scene.heard[asked] = Heard(lack=Lack("one request needs more", found_bytes=GIB // 4))
    scene.settle()
    assert plan(scene)["gpus"] == 2


def test_a_run_that_has_just_ended_is_looked_up_in_the_present_log() -> None:
    scene = deploying()
    scene.serving_pod(ended("RuntimeError: Engine core initialization failed."))
    assert log_of(scene).previous is False


def test_a_failure_for_another_reason_changes_no_plan() -> None:
    scene = deploying()
    scene.serving_pod(CRASHED, lastState=ended("ImportError: libcuda.so.1"))
    scene.heard[log_of(scene)] = Heard()
    scene.settle()
    assert plan(scene)["gpus"] == 1
    condition = scene.condition("Ready")
    assert condition
    assert condition["reason"] == "RollingOut"


def test_where_the_engine_does_not_say_what_it_found_all_that_was_planned_is_held() -> None:
    scene = deploying()
    planned = plan(scene)["memory"]["kvCache"]
    scene.serving_pod(
        CRASHED, lastState=ended("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    )
    scene.settle()
    assert plan(scene)["gpus"] == 2
    assert plan(scene)["shortage"]["correctionBytes"] == planned
    assert scene.measurements == {}, "nothing was measured"


def test_a_new_plan_that_tells_the_engine_nothing_else_is_not_tried() -> None:
    scene = deploying()
    more = TOO_LITTLE.replace("(0.5 GiB", "(99.0 GiB").replace("(0.25 GiB)", "(98.0 GiB)")
    scene.serving_pod(CRASHED, lastState=ended(more))
    scene.settle()
    assert stalled(scene).startswith("vLLM found 98.00 GiB for the KV cache on A10G where ")
    assert plan(scene)["gpus"] == 1
    assert scene.applied.count("Deployment support-bot") == 1
    assert "shortage" not in plan(scene)
    assert "Normal EngineOutOfMemory" not in scene.events


def test_a_gpu_that_others_fill_is_not_planned_anew() -> None:
    scene = deploying()
    said = "Free memory on device cuda:0 (10.0/22.06 GiB) on startup is less than desired GPU memory utilization"
    scene.serving_pod(CRASHED, lastState=ended(said))
    scene.settle()
    assert plan(scene)["gpus"] == 1
    assert "stop what else uses the GPU, or set spec.serving.gpuMemoryUtilization to at most 0.45" in stalled(scene)


def test_a_plan_without_a_known_gpu_stalls_at_once_with_the_engines_numbers() -> None:
    scene = deploying(gpus=())
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    assert stalled(scene).startswith(
        "vLLM did not start on nvidia.com/gpu: one request needs 0.50 GiB of KV cache and 0.25 GiB are there; the plan "
        "was not sized, since no kind of GPU is known; set spec.serving.maxModelLen below 4096"
    )


def test_what_served_before_goes_on_serving_while_its_successor_is_planned_anew_and_stalls() -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    scene.edit(serving={**SERVING, "maxModelLen": 3072})
    scene.settle()
    scene.serving_pod(CRASHED, number=1, lastState=ended())
    scene.settle()
    scene.serving_pod(CRASHED, number=2, lastState=ended())
    scene.settle()
    assert stalled(scene)
    assert scene.resource()["status"]["readyReplicas"] == 1
    assert not [line for line in scene.applied if line.startswith("delete Deployment")]


def test_a_corrected_spec_recovers_and_may_be_planned_anew_once_more() -> None:
    scene = deploying()
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    assert stalled(scene)
    scene.edit(serving={**SERVING, "maxModelLen": 1024, "concurrency": 1})
    scene.settle()
    assert scene.condition("Stalled") is None
    assert "shortage" not in plan(scene)
    assert plan(scene)["gpus"] == 1
    assert plan(scene)["memory"]["kvCache"] == GIB // 4, "what was found is what is reckoned with"
    serving(scene)
    condition = scene.condition("Ready")
    assert condition
    assert condition["status"] == "True"


def test_gpus_that_come_and_go_do_not_allow_one_more_plan() -> None:
    scene = deploying()
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    scene.accelerators = tuple(declared_classes([{"name": "L4", "perNode": 8, "product": "NVIDIA-L4"}]))
    scene.settle()
    assert plan(scene)["acceleratorClass"] == "L4"
    scene.serving_pod(CRASHED, lastState=ended())
    scene.settle()
    assert stalled(scene).startswith("vLLM found 0.25 GiB for the KV cache on ")


@pytest.mark.parametrize("words", [TOO_LITTLE, "CUDA out of memory"])
def test_an_engine_that_had_started_before_is_not_planned_anew(words: str) -> None:
    scene = serving(deploying())
    scene.heard[log_of(scene)] = Heard(measured=TOLD)
    scene.settle()
    deployment = scene.cache.get("Deployment", (NAMESPACE, "support-bot"))
    assert deployment
    scene.put({**deployment, "status": {**deployment["status"], "availableReplicas": 0, "readyReplicas": 0}})
    scene.serving_pod(CRASHED, lastState=ended(words))
    scene.settle()
    assert plan(scene)["gpus"] == 1
    assert scene.condition("Stalled") is None
