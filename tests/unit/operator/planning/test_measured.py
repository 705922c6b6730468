"""The engine's log lines are read as figures; the lines are vLLM's own, with the prefixes of its processes."""

import pytest

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.api.v1alpha1 import Measured, Plan
from ftm_operator.planning.feedback.engine_log import (
    Lack,
    correction_bytes,
    estimated_kv_cache_bytes,
    found_and_planned,
    lack_in,
    measured_in,
    what_to_do,
)

STARTED = """\
(APIServer pid=1) INFO 11-23 05:01:40 [api_server.py:1880] vLLM API server version 0.32.0
(Worker_TP0 pid=93) INFO 11-23 05:01:58 [gpu_model_runner.py:5149] Model loading took 6.75 GiB memory and 3.217 seconds
(Worker_TP1 pid=94) INFO 11-23 05:01:58 [gpu_model_runner.py:5149] Model loading took 6.81 GiB memory and 3.198 seconds
(Worker_TP0 pid=93) INFO 11-23 05:02:05 [gpu_worker.py:759] Available KV cache memory: 11.87 GiB
(Worker_TP1 pid=94) INFO 11-23 05:02:05 [gpu_worker.py:759] Available KV cache memory: 11.79 GiB
(EngineCore pid=61) INFO 11-23 05:02:06 [kv_cache_utils.py:2327] GPU KV cache size: 193,152 tokens, \
Maximum concurrency for 8,192 tokens per request: 23.58x
(EngineCore pid=61) INFO 11-23 05:02:07 [core.py:402] init engine (profile, create kv cache, warmup model) took 9.49 s
(APIServer pid=1) INFO:     Application startup complete.
"""
PREFIX = "(EngineCore pid=61) ERROR 11-23 05:01:03 [core.py:1510] "
TOO_LITTLE = (
    "ValueError: To serve at least one request with the model's max seq len (8192), (1.0 GiB KV cache is needed, which "
    "is larger than the available KV cache memory (0.48 GiB). Based on the available memory, the estimated maximum "
    "model length is 3920. Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU backend) "
    "or decreasing `max_model_len` when initializing the engine."
)
NOTHING = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when"
NOT_FREE = (
    "ValueError: Free memory on device cuda:0 (60.1/79.18 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 72.85 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
CUDA = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.06 GiB "
    "of which 1.12 GiB is free."
)
PLAN = Plan(
    gpus=1,
    accelerator="nvidia.com/gpu",
    accelerator_class="A10G",
    max_model_len=8192,
    gpu_memory_utilization=0.92,
    kv_cache_tokens=32_768,
    memory={"kvCache": 4 * GIB},
)


def test_of_two_ranks_the_largest_weights_and_the_smallest_cache_count() -> None:
    assert measured_in(STARTED) == Measured(
        weight_bytes=round(6.81 * GIB),
        kv_cache_bytes=round(11.79 * GIB),
        kv_cache_tokens=193_152,
        max_concurrency=23.58,
    )


def test_an_engine_on_a_cpu_says_how_many_tokens_alone() -> None:
    line = "[kv_cache_utils.py:2327] CPU KV cache size: 1,048,576 tokens, Maximum concurrency for 4,096 tokens per "
    assert measured_in(f"{line}request: 256.00x") == Measured(kv_cache_tokens=1_048_576, max_concurrency=256.0)


@pytest.mark.parametrize("cut", ["", "Model loading took", "Available KV cache"])
def test_a_log_that_has_not_come_so_far_says_nothing(cut: str) -> None:
    assert measured_in(STARTED.partition(cut)[0] if cut else "") is None


def test_what_requests_say_after_the_start_is_not_read() -> None:
    told = "INFO [logger.py:1] Received request: prompt: 'Available KV cache memory: 0.01 GiB'"
    assert measured_in(f"{STARTED}{told}\n") == measured_in(STARTED)


@pytest.mark.parametrize("line", ["Available KV cache memory: nan GiB", "KV cache size: ,, tokens", "took 1e9 GiB"])
def test_what_is_no_number_is_not_read(line: str) -> None:
    assert measured_in(line) is None


def test_a_cache_that_holds_no_request_is_a_lack_with_both_numbers() -> None:
    assert lack_in(PREFIX + TOO_LITTLE) == Lack(
        "one request needs 1.00 GiB of KV cache and 0.48 GiB are there", found_bytes=round(0.48 * GIB)
    )


def test_of_two_ranks_that_lack_memory_the_one_that_has_least_counts() -> None:
    other = TOO_LITTLE.replace("(0.48 GiB)", "(0.31 GiB)")
    found = lack_in(f"{PREFIX}{TOO_LITTLE}\n{PREFIX}{other}")
    assert found
    assert found.found_bytes == round(0.31 * GIB)


def test_where_nothing_is_left_the_engines_own_number_below_zero_counts() -> None:
    assert lack_in(PREFIX + NOTHING) == Lack("no memory is left for the KV cache", found_bytes=0)
    found = lack_in(f"Available KV cache memory: -1.25 GiB\n{PREFIX}{NOTHING}")
    assert found
    assert found.found_bytes == round(-1.25 * GIB)


def test_a_run_that_had_started_lacked_nothing_whatever_it_logged_later() -> None:
    assert lack_in(f"{STARTED}{PREFIX}{CUDA}") is None


def test_a_gpu_that_others_fill_is_told_apart() -> None:
    found = lack_in(PREFIX + NOT_FREE)
    assert found
    assert found.said == "60.10 of 79.18 GiB were free at the start"
    assert what_to_do(PLAN, found).endswith("set spec.serving.gpuMemoryUtilization to at most 0.75")


def test_out_of_memory_while_loading_says_what_it_tried() -> None:
    assert lack_in(PREFIX + CUDA) == Lack("out of memory: tried to allocate 2.00 GiB")
    assert lack_in("HIP out of memory") == Lack("out of memory")


@pytest.mark.parametrize("log", ["", STARTED, "RuntimeError: Engine core initialization failed. See root cause above."])
def test_other_failures_are_no_lack_of_memory(log: str) -> None:
    assert lack_in(log) is None


def test_a_plan_is_corrected_by_what_it_planned_too_much() -> None:
    assert correction_bytes(PLAN, GIB) == 3 * GIB
    assert correction_bytes(PLAN, -GIB) == 5 * GIB


def test_where_the_engine_did_not_say_all_that_was_planned_is_held() -> None:
    assert correction_bytes(PLAN, None) == 4 * GIB


def test_a_correction_is_never_less_than_a_block_more_than_before() -> None:
    assert correction_bytes(PLAN, 5 * GIB) == 2 * MIB
    corrected = PLAN.model_copy(update={"memory": {"kvCache": 4 * GIB, "measuredCorrection": GIB}})
    assert correction_bytes(corrected, 3 * GIB) == 2 * GIB


def test_the_estimate_is_what_a_plan_said_without_its_correction() -> None:
    corrected = PLAN.model_copy(update={"memory": {"kvCache": 3 * GIB, "measuredCorrection": GIB}})
    assert estimated_kv_cache_bytes(corrected) == estimated_kv_cache_bytes(PLAN) == 4 * GIB
    assert estimated_kv_cache_bytes(Plan()) is None


def test_both_numbers_and_the_gpu_are_told_and_what_to_do() -> None:
    lack = Lack("one request needs 1.00 GiB", found_bytes=GIB // 2)
    assert found_and_planned(PLAN, lack) == "vLLM found 0.50 GiB for the KV cache on A10G where 4.00 GiB were planned"
    assert what_to_do(PLAN, lack) == (
        "set spec.serving.maxModelLen below 8192, offer a larger GPU, or raise "
        "spec.serving.gpuMemoryUtilization of 0.92"
    )
    silent = Lack("out of memory: tried to allocate 2.00 GiB")
    assert found_and_planned(PLAN.model_copy(update={"gpus": 2}), silent) == (
        "vLLM did not start on each A10G: out of memory: tried to allocate 2.00 GiB; 4.00 GiB were planned for the KV "
        "cache"
    )
    assert "or lower spec.serving.gpuMemoryUtilization" in what_to_do(PLAN, silent)
