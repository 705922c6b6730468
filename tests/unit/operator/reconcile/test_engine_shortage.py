"""An engine that lacks memory is planned anew once; the second failure stalls with both figures."""

import pytest

from ftm_jobs.contract.byte_counts import GIB
from ftm_operator.planning.feedback.engine_log import Lack
from ftm_operator.reconcile.engine_feedback import EngineMemory
from ftm_operator.reconcile.passes import Effects, Result
from tests.unit.operator.reconcile.engines import L4, ONE_A10G, SERVING, TOLD, answering, deploying
from tests.unit.operator.serving import ended

TOO_LITTLE = (
    "ValueError: To serve at least one request with the model's max seq len (4096), (0.5 GiB KV cache is needed, which "
    "is larger than the available KV cache memory (0.25 GiB)."
)


def test_an_engine_that_lacks_memory_is_planned_anew_once() -> None:
    scene = deploying()
    assert scene.plan()["gpus"] == 1
    planned = scene.plan()["memory"]["kvCache"]
    scene.engine_crashes(TOO_LITTLE)
    assert scene.plan()["gpus"] == 2
    assert scene.plan()["shortage"] == {
        "acceleratorClass": "A10G",
        "tensorParallelSize": 1,
        "pipelineParallelSize": 1,
        "plannedBytes": planned,
        "foundBytes": GIB // 4,
        "correctionBytes": planned - GIB // 4,
    }
    assert scene.plan()["reasons"][-1] == (
        f"vLLM found 0.25 GiB for the KV cache on A10G where {planned / GIB:.2f} GiB were planned; planned anew: "
        "2 x A10G, 4096 tokens of context"
    )
    assert scene.applied[-2:] == ["Deployment support-bot"] * 2
    assert scene.events[-2:] == ["Normal EngineOutOfMemory", "Normal RollingOut"]
    assert not scene.is_stalled()


def test_a_second_failure_stalls_with_both_numbers_and_what_to_do() -> None:
    scene = deploying()
    scene.engine_crashes(TOO_LITTLE)
    planned = scene.plan()["memory"]["kvCache"] / GIB
    scene.engine_crashes(TOO_LITTLE)
    assert scene.stalled().message == (
        f"vLLM found 0.25 GiB for the KV cache on each A10G where {planned:.2f} GiB were planned; set "
        "spec.serving.maxModelLen below 4096, offer a larger GPU, or raise spec.serving.gpuMemoryUtilization of 0.92"
    )
    assert scene.plan()["gpus"] == 2
    scene.later(86_400)
    result = scene.once()
    assert (result.actions, result.status, result.notices) == ((), None, ())


def test_it_stays_stalled_while_the_engine_is_tried_again_and_recovers_if_it_starts() -> None:
    scene = deploying(ONE_A10G)
    scene.engine_crashes(TOO_LITTLE)
    scene.serving_pod({"running": {}}, lastState=ended(TOO_LITTLE))
    assert scene.once() == Result(Effects(measurements=scene.once().effects.measurements))
    scene.answer()
    scene.serving_pod({"running": {}}, ready=True, lastState=ended(TOO_LITTLE))
    assert scene.phase() == "Ready"


def test_where_nothing_else_fits_it_stalls_at_once_and_says_what_would() -> None:
    scene = deploying(ONE_A10G)
    scene.engine_crashes(TOO_LITTLE)
    message = scene.stalled().message
    assert message.startswith("vLLM found 0.25 GiB for the KV cache on A10G where ")
    assert "no other plan fits: A10G, tensor-parallel size 1: each GPU needs" in message
    assert "shortage" not in scene.plan()


def test_last_words_that_end_in_the_servers_own_traceback_are_looked_up_in_the_log() -> None:
    scene = deploying()
    scene.engine_crashes("RuntimeError: Engine core initialization failed. See root cause above.")
    asked = scene.awaited_log()
    assert asked
    assert (asked.failed, asked.previous) == (True, True)
    assert scene.plan()["gpus"] == 1
    scene.engine_logs(EngineMemory(lack=Lack("one request needs more", found_bytes=GIB // 4)))
    assert scene.plan()["gpus"] == 2


def test_a_run_that_has_just_ended_is_looked_up_in_the_present_log() -> None:
    scene = deploying()
    scene.serving_pod(ended("RuntimeError: Engine core initialization failed."))
    asked = scene.awaited_log()
    assert asked
    assert asked.previous is False


def test_a_failure_for_another_reason_changes_no_plan() -> None:
    scene = deploying()
    scene.engine_crashes("ImportError: libcuda.so.1")
    scene.engine_logs(EngineMemory())
    assert scene.plan()["gpus"] == 1
    assert scene.condition("Ready").reason == "RollingOut"


def test_where_the_engine_does_not_say_what_it_found_all_that_was_planned_is_held() -> None:
    scene = deploying()
    planned = scene.plan()["memory"]["kvCache"]
    scene.engine_crashes("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert scene.plan()["gpus"] == 2
    assert scene.plan()["shortage"]["correctionBytes"] == planned
    assert scene.measurements == {}, "nothing was measured"


def test_a_new_plan_that_tells_the_engine_nothing_else_is_not_tried() -> None:
    scene = deploying()
    more = TOO_LITTLE.replace("(0.5 GiB", "(99.0 GiB").replace("(0.25 GiB)", "(98.0 GiB)")
    scene.engine_crashes(more)
    assert scene.stalled().message.startswith("vLLM found 98.00 GiB for the KV cache on A10G where ")
    assert scene.plan()["gpus"] == 1
    assert scene.applied.count("Deployment support-bot") == 1
    assert "shortage" not in scene.plan()
    assert "Normal EngineOutOfMemory" not in scene.events


def test_a_gpu_that_others_fill_is_not_planned_anew() -> None:
    scene = deploying()
    said = "Free memory on device cuda:0 (10.0/22.06 GiB) on startup is less than desired GPU memory utilization"
    scene.engine_crashes(said)
    assert scene.plan()["gpus"] == 1
    message = scene.stalled().message
    assert "stop what else uses the GPU, or set spec.serving.gpuMemoryUtilization to at most 0.45" in message


def test_a_plan_without_a_known_gpu_stalls_at_once_with_the_engines_numbers() -> None:
    scene = deploying(gpus=())
    scene.engine_crashes(TOO_LITTLE)
    assert scene.stalled().message.startswith(
        "vLLM did not start on nvidia.com/gpu: one request needs 0.50 GiB of KV cache and 0.25 GiB are there; the plan "
        "was not sized, since no kind of GPU is known; set spec.serving.maxModelLen below 4096"
    )


def test_what_served_before_goes_on_serving_while_its_successor_is_planned_anew_and_stalls() -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD))
    scene.edit(serving={**SERVING, "maxModelLen": 3072})
    scene.engine_crashes(TOO_LITTLE, number=1)
    scene.engine_crashes(TOO_LITTLE, number=2)
    assert scene.stalled().reason == "EngineOutOfMemory"
    assert scene.status()["readyReplicas"] == 1
    assert not [line for line in scene.applied if line.startswith("delete Deployment")]


def test_a_corrected_spec_recovers_and_may_be_planned_anew_once_more() -> None:
    scene = deploying()
    scene.engine_crashes(TOO_LITTLE)
    scene.engine_crashes(TOO_LITTLE)
    assert scene.stalled().reason == "EngineOutOfMemory"
    scene.edit(serving={**SERVING, "maxModelLen": 1024, "concurrency": 1})
    assert not scene.is_stalled()
    assert "shortage" not in scene.plan()
    assert scene.plan()["gpus"] == 1
    assert scene.plan()["memory"]["kvCache"] == GIB // 4, "what was found is what is reckoned with"
    answering(scene)
    assert scene.condition("Ready").status == "True"


def test_gpus_that_come_and_go_do_not_allow_one_more_plan() -> None:
    scene = deploying()
    scene.engine_crashes(TOO_LITTLE)
    planned, offered = scene.plan(), scene.accelerators
    scene.offer(L4)
    scene.offer(offered)
    assert scene.plan() == planned
    scene.engine_crashes(TOO_LITTLE)
    assert scene.stalled().message.startswith("vLLM found 0.25 GiB for the KV cache on ")


@pytest.mark.parametrize("words", [TOO_LITTLE, "CUDA out of memory"])
def test_an_engine_that_had_started_before_is_not_planned_anew(words: str) -> None:
    scene = answering(deploying())
    scene.engine_logs(EngineMemory(measured=TOLD))
    deployment = scene.get("Deployment")
    scene.put({**deployment, "status": {**deployment["status"], "availableReplicas": 0, "readyReplicas": 0}})
    scene.engine_crashes(words)
    assert scene.plan()["gpus"] == 1
    assert not scene.is_stalled()
