"""The choice: the textbook cases, what an answer holds, and what is said when nothing fits."""

from typing import Any

import pytest

from ftm_operator.planning.answer import pod_json, sizing_json
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.planning.memory.reserves import Batch
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.quantization import AWQ
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.outcome import NoFit, Option, Sizing
from ftm_operator.planning.sizing.reasons import reasons
from ftm_operator.planning.sizing.remedies import remedies
from ftm_operator.planning.sizing.request import Request
from tests.unit.operator.planning.catalogue import base_facts_of, model_of

A10G = {"name": "A10G", "memory": "23028Mi", "perNode": 4, "nodes": 2, "resource": "nvidia.com/gpu"}
A100 = {"name": "A100-80", "memory": "80Gi", "perNode": 8, "nodes": 2, "resource": "nvidia.com/gpu"}


def classes(*declared: dict[str, Any]) -> list[AcceleratorClass]:
    return declared_classes(list(declared))


def placed(name: str, request: Request, *declared: dict[str, Any]) -> Sizing:
    found = size(model_of(name), request, classes(*declared))
    assert isinstance(found, Sizing), found
    return found


def option(name: str, request: Request, *declared: dict[str, Any]) -> Option:
    return placed(name, request, *declared).option


def refused(name: str, request: Request, *declared: dict[str, Any]) -> NoFit:
    found = size(model_of(name), request, classes(*declared))
    assert isinstance(found, NoFit), found
    return found


@pytest.mark.parametrize(
    ("name", "dtype", "context", "declared", "tp"),
    [
        ("mistral-7b-v0.1", "float16", 4096, A10G, 1),
        ("mistral-7b-v0.1", "float16", 8192, A10G, 2),
        ("llama-3.1-70b", "bfloat16", 8192, A100, 4),
    ],
)
def test_the_textbook_cases_come_from_the_one_rule(
    name: str, dtype: str, context: int, declared: dict[str, Any], tp: int
) -> None:
    found = option(name, Request(context, dtype=dtype), declared)
    assert (found.layout.gpus, found.layout.tensor_parallel, found.layout.nodes) == (tp, tp, 1)
    assert (found.context, found.dtype) == (context, dtype)


@pytest.mark.parametrize(("context", "gpus"), [(4096, 1), (8192, 2)])
def test_they_come_from_plain_facts_of_an_older_inspection_too(context: int, gpus: int) -> None:
    facts = base_facts_of("mistral-7b-v0.1").model_copy(update={"tensors": None, "config": None})
    found = size(architecture(facts), Request(context, dtype="float16"), classes(A10G))
    assert isinstance(found, Sizing)
    assert found.option.layout.gpus == gpus


def test_without_a_context_the_longest_that_fits_is_taken_in_whole_blocks() -> None:
    found = placed("mistral-7b-v0.1", Request(dtype="float16"), A10G)
    context = found.option.context
    assert found.option.layout.gpus == 1
    assert 4096 < context < 8192
    assert context % 16 == 0
    assert found.option.memory.fits(8, context)
    assert not found.option.memory.fits(8, context + 16)
    assert reasons(found)[3] == (
        f"context {context} tokens: the longest of which 8 requests fit at once, in whole blocks of 16 tokens; "
        "the model's own limit is 32768 tokens"
    )


def test_a_gpu_that_holds_little_context_is_taken_when_there_is_no_other() -> None:
    found = option("llama-3-8b", Request(), {"name": "small", "memory": "20Gi"})
    assert 0 < found.context < 4096


def test_fewer_gpus_win_then_fewer_nodes_then_the_cheaper_then_the_first() -> None:
    request = Request(8192, dtype="float16")
    h100 = {"name": "H100", "perNode": 8}
    assert option("mistral-7b-v0.1", request, A10G, h100).accelerator.name == "H100"
    two_nodes = {"name": "one each", "memory": "23028Mi", "perNode": 1, "nodes": 4, "cost": 0}
    assert option("mistral-7b-v0.1", request, two_nodes, A10G).accelerator.name == "A10G"
    l4 = {"name": "L4", "perNode": 4}
    assert option("mistral-7b-v0.1", request, A10G, l4).accelerator.name == "L4"
    twins = [{**A10G, "name": "second", "product": "A10G"}, {**A10G, "name": "first", "product": "A10G"}]
    assert option("mistral-7b-v0.1", request, *twins).accelerator.name == "second"


def test_what_was_not_chosen_says_why() -> None:
    found = placed("mistral-7b-v0.1", Request(8192, dtype="float16"), A10G, {"name": "L4", "perNode": 4})
    rejected = {(each.accelerator, each.tensor_parallel, each.rule): each.reason for each in found.rejected}
    assert rejected["A10G", 2, "HigherCost"] == "needs 2 GPUs as well, and comes after L4 in the cost order"
    assert rejected["L4", 1, "Memory"] == (
        "each GPU needs 23.68 GiB: 13.49 GiB of weights, 2.17 GiB of reserves and 8.02 GiB of KV cache for 8 requests "
        "of 8192 tokens each; it has 20.27 GiB, 92% of 22.03 GiB"
    )


def test_a_kind_of_which_more_are_needed_says_how_many_both_need() -> None:
    found = placed("mistral-7b-v0.1", Request(8192, dtype="float16"), A10G, {"name": "H100", "perNode": 8})
    (more,) = (each for each in found.rejected if each.rule == "MoreGPUs")
    assert (more.accelerator, more.reason) == ("A10G", "needs 2 GPUs, and H100 needs 1 GPU")


def test_heads_that_do_not_divide_are_served_by_pipeline_stages_in_the_node() -> None:
    found = option("falcon-7b", Request(2048), {"name": "T4", "perNode": 4})
    assert (found.layout.tensor_parallel, found.layout.pipeline_parallel, found.layout.nodes) == (1, 2, 1)
    assert found.dtype == "float16"


def test_several_nodes_have_stages_across_and_tensor_parallelism_inside() -> None:
    h100 = {"name": "H100", "perNode": 8, "nodes": 2}
    found = placed("deepseek-v3", Request(8192), h100)
    layout = found.option.layout
    assert (layout.tensor_parallel, layout.pipeline_parallel, layout.nodes) == (8, 2, 2)
    assert pod_json(found)["gpus"] == 8
    assert refused("deepseek-v3", Request(8192, several_nodes=False), h100).rule == "Memory"
    assert refused("deepseek-v3", Request(8192), {**h100, "nodes": 1}).rule == "Memory"


def test_a_size_that_is_asked_for_is_taken_or_refused_with_its_rule() -> None:
    assert option("mistral-7b-v0.1", Request(4096, tensor_parallel=4), A10G).layout.tensor_parallel == 4
    found = refused("llama-3.1-70b", Request(8192, tensor_parallel=3), A100)
    assert (found.rule, found.reason) == (
        "AttentionHeads",
        "A100-80, tensor-parallel size 3: 64 attention heads do not divide by 3",
    )
    found = refused("llama-3.1-70b", Request(8192, tensor_parallel=16), A100)
    assert (found.rule, found.reason) == (
        "GPUsPerNode",
        "A100-80, tensor-parallel size 16: 16 GPUs are needed on one node, and a node has 8",
    )


def test_a_context_beyond_the_models_own_is_refused_with_the_limit() -> None:
    found = refused("llama-3-8b", Request(9000), A100)
    assert (found.rule, found.reason) == (
        "ContextLength",
        "spec.serving.maxModelLen 9000 exceeds the model's limit of 8192 tokens; ask for at most that",
    )
    assert remedies(model_of("llama-3-8b"), Request(9000), classes(A100), found) == []


def test_a_t4_computes_in_float16_and_refuses_bfloat16_by_name() -> None:
    t4 = {"name": "T4", "perNode": 4}
    found = placed("qwen3-0.6b", Request(4096), t4)
    assert found.option.dtype == "float16"
    assert reasons(found)[2] == "dtype float16: the weights are bfloat16, which T4 does not compute in"
    assert refused("qwen3-0.6b", Request(4096, dtype="bfloat16"), t4).rejected[0].reason == (
        "bfloat16 needs compute capability 8.0, and this GPU has 7.5; set spec.serving.dtype to float16"
    )
    assert option("mistral-7b-v0.1", Request(4096, scheme=AWQ), t4).dtype == "float16"


def test_the_classic_group_trap_is_named_with_its_numbers() -> None:
    found = refused("qwen2-72b", Request(8192, scheme=AWQ, tensor_parallel=2), A100)
    assert found.rule == "QuantizationGroups"
    assert found.reason.endswith(
        "down_proj: 29568 inputs over 2 ranks are 14784 each, which are not whole AWQ 4-bit groups of 128; "
        "groups of 64 would be"
    )


def test_parts_of_gpus_do_not_work_together() -> None:
    mig = {"name": "3g.40gb", "memory": "40Gi", "perNode": 2, "resource": "nvidia.com/mig-3g.40gb"}
    assert option("llama-3-8b", Request(4096), mig).layout.gpus == 1
    found = refused("llama-3.1-70b", Request(4096), mig)
    assert {each.rule for each in found.rejected} == {"Memory", "PartOfGPU"}


def test_a_shared_gpu_is_filled_by_its_share() -> None:
    found = placed("qwen3-0.6b", Request(4096), {**A10G, "sharedBy": 2})
    assert found.option.memory.budget == int(found.option.accelerator.usable_bytes * 0.92 / 2)
    assert sizing_json(found)["gpuMemoryUtilization"] == 0.46
    assert refused("mistral-7b-v0.1", Request(4096), {**A10G, "sharedBy": 2}).rejected[1].rule == "SharedGPU"


def test_a_batch_that_leaves_too_little_is_made_smaller_and_said() -> None:
    large = {"name": "H100", "perNode": 1}
    assert option("llama-3-8b", Request(4096), large).batch == Batch(8192, 1024)
    found = placed("qwen3-32b", Request(4096, concurrency=8), large)
    assert found.option.batch == Batch(2048, 256)
    assert reasons(found)[4] == (
        "batch of 2048 tokens and 256 sequences: vLLM's default of 8192 and 1024 leaves too little memory for the KV "
        "cache"
    )


def test_an_answer_has_the_keys_that_programs_rely_on() -> None:
    answer = sizing_json(placed("mistral-7b-v0.1", Request(8192, dtype="float16"), A10G))
    wanted = {
        "feasible": True,
        "accelerator": "A10G",
        "resource": "nvidia.com/gpu",
        "gpus": 2,
        "nodes": 1,
        "tensorParallelSize": 2,
        "pipelineParallelSize": 1,
        "dtype": "float16",
        "maxModelLen": 8192,
        "maxNumBatchedTokens": 2048,
    }
    assert {key: answer[key] for key in wanted} == wanted
    memory = answer["memory"]
    parts = ("weights", "activations", "cudaGraphs", "nonTorch", "rotary", "slack", "kvCache")
    assert sum(memory[part] for part in parts) == memory["total"]
    assert memory["weights"] == pytest.approx(7_241_732_096, rel=1e-4)
    assert answer["kvCacheTokens"] >= 8 * 8192
    assert answer["rejected"][0].keys() == {"accelerator", "tensorParallelSize", "rule", "reason"}


def test_what_would_fit_is_said_and_true() -> None:
    request = Request(8192)
    found = refused("llama-3.1-70b", request, A10G)
    said = remedies(model_of("llama-3.1-70b"), request, classes(A10G), found)
    four = "4 x A10G (tensor-parallel size 4)"
    assert said == [
        "a context of 528 tokens fits on 8 x A10G: set spec.serving.maxModelLen to at most that",
        f"4-bit weights (AWQ, groups of 128) fit on {four}: set spec.quantization.method to AWQ",
        "1 x NVIDIA-B200 (tensor-parallel size 1) would hold it: offer such GPUs",
    ]
    assert option("llama-3.1-70b", Request(528), A10G).context == 528
    assert refused("llama-3.1-70b", Request(528 + 16), A10G).rule == "Memory"
    assert option("llama-3.1-70b", Request(8192, scheme=AWQ), A10G).layout.gpus == 4


def test_a_size_that_stands_in_the_way_is_what_to_remove() -> None:
    request = Request(8192, tensor_parallel=3)
    found = refused("llama-3.1-70b", request, A100)
    assert remedies(model_of("llama-3.1-70b"), request, classes(A100), found)[0] == (
        "it fits on 4 x A100-80 (tensor-parallel size 4): "
        "remove spec.serving.tensorParallelSize, so that the size is chosen"
    )


def test_a_node_selector_is_given_where_the_nodes_label_is_known() -> None:
    assert "nodeSelector" not in pod_json(placed("qwen3-0.6b", Request(4096), A10G))
    labelled = {**A10G, "product": "NVIDIA-A10G"}
    assert pod_json(placed("qwen3-0.6b", Request(4096), labelled))["nodeSelector"] == {
        "nvidia.com/gpu.product": "NVIDIA-A10G"
    }
