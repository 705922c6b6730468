"""`ftm explain` shows what the engine measured beside what was estimated."""

from ftm_jobs.contract.byte_counts import GIB
from ftm_operator.api.v1alpha1 import FineTunedModelStatus, Measured, Plan, Start
from ftm_operator.command.explain import format_plan

PLAN = Plan(
    engine="vLLM",
    quantization="None",
    gpus=1,
    accelerator="nvidia.com/gpu",
    accelerator_class="A10G",
    tensor_parallel_size=1,
    max_model_len=4096,
    concurrency=8,
    kv_cache_tokens=40_000,
    memory={"weights": 13 * GIB, "measuredCorrection": -GIB, "kvCache": 5 * GIB, "total": 20 * GIB},
)


def told(plan: Plan) -> str:
    return "\n".join(format_plan("support-bot", FineTunedModelStatus(plan=plan), None))


def test_what_was_measured_is_beside_the_estimate() -> None:
    measured = Measured(weight_bytes=14 * GIB, kv_cache_bytes=4 * GIB, kv_cache_tokens=32_000, max_concurrency=7.81)
    text = told(PLAN.model_copy(update={"measured": measured}))
    assert "  KV cache                40000 tokens\n" in text
    assert "  KV cache, measured      32000 tokens, 7.81 requests of the whole context\n" in text
    assert (
        "memory of the GPU, as estimated and as the engine measured it\n"
        "  weights                  13.00 GiB  14.00 GiB\n"
        "  measured correction      -1.00 GiB\n"
        "  KV cache                  5.00 GiB   4.00 GiB\n"
        "  in all                   20.00 GiB\n"
    ) in text


def test_before_the_engine_has_started_there_is_the_estimate_alone() -> None:
    assert "memory of the GPU, as estimated\n  weights                  13.00 GiB\n" in told(PLAN)
    assert "KV cache, measured" not in told(PLAN)


def test_a_replica_over_several_nodes_says_over_how_many() -> None:
    text = told(PLAN.model_copy(update={"gpus": 4, "nodes": 2, "pipeline_parallel_size": 2}))
    assert "  accelerators            4 x A10G (nvidia.com/gpu) for each replica, on 2 nodes\n" in text


def test_a_start_is_told_by_part() -> None:
    status = FineTunedModelStatus(plan=PLAN, start=Start(seconds=84, fetch_seconds=31, load_seconds=12))
    text = "\n".join(format_plan("support-bot", status, None))
    assert "  start                   started in 84 s: fetch 31, load 12, the rest 41\n" in text
