"""A start-up log of any version since 0.8 is read, and held against what is predicted of the same sizes."""

from typing import Any

import pytest

from ftm_jobs.contract.byte_counts import GIB
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelSpec
from ftm_operator.planning.feedback.comparison import Item, LogComparison, comparison
from ftm_operator.planning.feedback.start_log import StartLog, start_log
from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.outcome import Sizing
from ftm_operator.planning.sizing.request import Request
from tests.unit.operator.objects import resource
from tests.unit.operator.planning.catalogue import base_facts_of, model_of
from tests.unit.operator.planning.start_logs import V0, V1, V2

CLASSES = declared_classes([{"name": "A100-40"}, {"name": "A10G", "perNode": 4}])
BASE = base_facts_of("mistral-7b-v0.1").model_copy(update={"uri": "hf://mistralai/Mistral-7B-v0.1@main"})


def read(text: str) -> StartLog:
    found = start_log(text)
    assert found
    return found


def spec(**serving: Any) -> FineTunedModelSpec:
    return FineTunedModel.model_validate(resource(serving=serving)).spec


def beside(log: str, planned: Sizing | None = None, **serving: Any) -> LogComparison:
    found = comparison(spec(**serving), BASE, CLASSES, planned, read(log))
    assert isinstance(found, LogComparison)
    return found


def sized(request: Request) -> Sizing:
    found = size(model_of("mistral-7b-v0.1"), request, CLASSES[1:])
    assert isinstance(found, Sizing)
    return found


def items(found: LogComparison) -> dict[str, Item]:
    return {each.name: each for each in found.items}


def test_the_engine_before_v1_is_read() -> None:
    found = read(V0)
    assert (found.version, found.minor_version, found.model) == ("0.8.5", (0, 8), "mistralai/Mistral-7B-v0.1")
    assert (found.measured.weight_bytes, found.measured.kv_cache_bytes) == (round(13.5 * GIB), round(21.46 * GIB))
    assert (found.activation_bytes, found.non_torch_bytes) == (round(0.39 * GIB), round(0.09 * GIB))
    assert found.number("max_model_len") == 8192


def test_of_several_ranks_the_largest_counts_and_requests_are_not_read() -> None:
    found = read(V1)
    assert (found.version, found.number("tensor_parallel_size"), found.number("max_num_seqs")) == ("0.10.1.1", 2, 128)
    assert (found.batched_tokens, found.settings["gpu_memory_utilization"]) == (2048, "0.9")
    assert found.measured.weight_bytes == round(6.7606 * GIB)
    assert found.measured.kv_cache_bytes == round(12.4 * GIB)
    assert (found.measured.kv_cache_tokens, found.measured.max_concurrency) == (203_168, 24.8)
    assert (found.activation_bytes, found.non_torch_bytes) == (round(0.38 * GIB), round(0.31 * GIB))
    assert (found.graph_bytes, found.total_bytes) == (round(0.48 * GIB), round(22.06 * GIB))


def test_the_newest_form_is_read() -> None:
    found = read(V2)
    assert (found.minor_version, found.settings["enforce_eager"], found.settings["kv_cache_dtype"]) == (
        (0, 33),
        "True",
        "fp8",
    )
    assert (found.activation_bytes, found.non_torch_bytes) == (round(0.31 * GIB), None)


@pytest.mark.parametrize("text", ["", "INFO: Uvicorn running", "tensor_parallel_size=2", "\x00\xff"])
def test_a_text_without_figures_is_no_start(text: str) -> None:
    assert start_log(text) is None


def test_a_start_that_failed_is_read_as_far_as_it_came() -> None:
    refused = V1.partition("(VllmWorker TP0 pid=93) INFO 08-30 05:02:05")[0] + (
        "ValueError: To serve at least one request with the models's max seq len (8192), (0.5 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.4 GiB)."
    )
    found = read(refused)
    assert found.lack
    assert found.lack.found_bytes == round(0.4 * GIB)
    assert found.measured.weight_bytes == round(6.7606 * GIB)
    assert "the engine of the log did not start: one request needs 0.50 GiB of KV cache and 0.40 GiB are there" in (
        beside(refused).differences
    )


def test_each_figure_is_predicted_with_the_sizes_of_the_log() -> None:
    found = beside(V1)
    option, figures = found.option, items(found)
    assert (option.accelerator.name, option.layout.tensor_parallel, option.context) == ("A10G", 2, 8192)
    assert (option.batch.tokens, option.batch.sequences) == (2048, 128)
    assert figures["weights"].error == pytest.approx(-0.0012, abs=0.0005)
    assert figures["kvCacheBytesPerToken"].error == pytest.approx(0.0, abs=0.005)
    assert {name for name, each in figures.items() if each.within_ends} == {
        "activations",
        "nonTorch",
        "kvCache",
        "kvCacheTokens",
        "requestsAtOnce",
    }
    assert "cudaGraphs" not in figures
    assert figures["kvCache"].error == pytest.approx(-0.157, abs=0.001)
    assert figures["requestsAtOnce"].logged == 24.8


def test_a_log_of_an_eager_engine_with_an_fp8_cache_is_predicted_so() -> None:
    found = beside(V2, maxModelLen=8192, dtype="float16")
    assert "cudaGraphs" not in items(found)
    assert items(found)["kvCacheBytesPerToken"].error == pytest.approx(0.0, abs=0.01)
    assert items(found)["activations"].other_end == items(found)["activations"].predicted


@pytest.mark.parametrize("said", [True, False])
def test_a_log_says_whether_prefixes_are_cached(said: bool) -> None:
    found = read(f"INFO config: enable_prefix_caching={said}, seed=0\n{V1}")
    assert found.settings["enable_prefix_caching"] == str(said)


def test_where_the_logs_sizes_and_model_are_not_the_plans_it_is_said() -> None:
    planned = sized(Request(4096, dtype="float16"))
    assert beside(V1.replace("mistralai/Mistral-7B-v0.1", "org/other"), planned).differences == (
        "the log serves org/other, the manifest's base is mistralai/Mistral-7B-v0.1",
        "tensor-parallel size: the log has 2, the plan 1",
        "context: the log has 8192, the plan 4096",
        "max-num-seqs: the log has 128, the plan 256",
        "GPU memory utilization: the log has 0.9, the plan 0.92",
    )
    same = Request(8192, dtype="float16", tensor_parallel=2, utilization=0.9, batched_sequences=128)
    assert beside(V1, sized(same)).differences == ()


def test_a_gpu_of_another_size_is_said() -> None:
    found = beside(V1.replace("21.69/22.06", "78.6/79.14"))
    assert found.differences[0] == (
        "the log's GPU has 79.14 GiB, A100-40 has 39.38: name the log's kind of GPU in --gpus"
    )


def test_an_error_is_a_share_of_what_was_logged_and_both_ends_are_known() -> None:
    assert Item("activations", 2.0, 1.6, 1.0).to_json() == {
        "item": "activations",
        "unit": "bytes",
        "predicted": 2.0,
        "otherEnd": 1.0,
        "logged": 1.6,
        "error": pytest.approx(0.25),
        "withinEnds": True,
    }
    assert not Item("kvCache", 2.0, 4.0, 3.0).within_ends
    assert Item("kvCache", 2.0, 2.5, 3.0).within_ends
    assert Item("weights", 2.0, None).to_json() == {"item": "weights", "unit": "bytes", "predicted": 2.0}
    assert Item("cudaGraphs", 2.0, 0.0, 1.0).error is None


def test_graphs_that_are_deducted_are_compared() -> None:
    log = V2.replace("enforce_eager=True", "enforce_eager=False")
    assert items(beside(f"{log}Graph capturing finished in 9 secs, took 0.40 GiB"))["cudaGraphs"].within_ends
    assert items(beside(f"{log}Graph capturing finished in 9 secs, took -0.40 GiB"))["cudaGraphs"].logged == 0


def test_a_model_that_llama_cpp_serves_has_no_log_of_vllm() -> None:
    found = comparison(spec(device="CPU"), BASE, CLASSES, None, read(V1))
    assert found == "llama.cpp on CPUs: spec.serving.device is CPU"
