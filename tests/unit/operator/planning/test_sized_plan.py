"""A spec's wishes reach the sizing, and the plan that comes of it."""

from collections.abc import Sequence
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelSpec, Plan
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.planning.memory.engine_setup import AdapterSlots, Draft, EngineSetup
from ftm_operator.planning.plan import Planned, again, plan
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.request import KnownEngine, Request, request_of
from ftm_operator.planning.sizing.spec_sizing import NothingFits
from tests.unit.operator.objects import adapter_facts, resource
from tests.unit.operator.planning.catalogue import base_facts_of

A10G = declared_classes([{"name": "A10G", "perNode": 4}])
MISTRAL = Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),))
QWEN = MISTRAL.model_copy(update={"base": base_facts_of("qwen2-0.5b")})
"""7 attention heads of 64 on each of two ranks: 448 inputs, which 128 does not divide."""


def spec(**serving: Any) -> FineTunedModelSpec:
    return FineTunedModel.model_validate(resource(serving=serving)).spec


def planned(asked: FineTunedModelSpec, classes: Sequence[AcceleratorClass] = ()) -> Plan:
    found = plan("support-bot", asked, MISTRAL, classes)
    assert isinstance(found, Planned)
    return found.plan


def test_a_plan_on_known_gpus_has_their_sizes_and_reasons() -> None:
    found = planned(spec(maxModelLen=8192, dtype="float16"), A10G)
    assert (found.tensor_parallel_size, found.gpus, found.max_model_len) == (2, 2, 8192)
    assert (found.accelerator, found.dtype, found.served_model_name) == ("nvidia.com/gpu", "float16", "support-bot")
    assert found.reasons[0] == "Merged: 1 adapter folded into the weights"
    assert found.reasons[3].startswith("2 x A10G: the fewest GPUs that hold on each 6.74 GiB of weights")


def test_a_smaller_group_is_taken_where_the_layout_needs_it_and_the_quantizer_is_told() -> None:
    asked = FineTunedModel.model_validate(
        resource(serving={"tensorParallelSize": 2}, quantization={"method": "AWQ"})
    ).spec
    found = plan("support-bot", asked, QWEN, A10G)
    assert isinstance(found, Planned)
    assert (found.plan.quantization, found.plan.gpus, found.plan.group_size) == ("AWQ", 2, 64)
    assert found.decision.awq is not None
    assert (found.decision.awq.group_size, found.decision.awq.ranks) == (64, 2)
    assert again(asked, QWEN, found.plan) == found


def test_a_replica_that_would_span_nodes_is_refused_with_what_it_takes() -> None:
    few = declared_classes([{"name": "A10G", "perNode": 1, "nodes": 4}])
    found = plan("support-bot", spec(maxModelLen=8192, dtype="float16"), MISTRAL, few, several_nodes=False)
    assert isinstance(found, Rejection)
    assert (
        "2 x A10G on 2 nodes hold it, which takes LeaderWorkerSet: install it (its CRD and controller), or"
        in found.reason
    )


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        ({}, "reserves of vLLM 0.30 with model runner V2 are held"),
        ({"image": "registry.example/vllm:v0.20.1"}, "reserves of vLLM 0.20 with model runner V1 are held"),
        ({"image": "registry.example/vllm:own"}, "reserves of vLLM of an unknown version with model runner V1 or V2"),
    ],
)
def test_the_reserves_are_those_of_the_engines_version_and_both_ends_are_told(
    serving: dict[str, str], said: str
) -> None:
    engine = KnownEngine(version=(0, 30))
    found = plan("support-bot", spec(maxModelLen=8192, dtype="float16", **serving), MISTRAL, A10G, engine=engine)
    assert isinstance(found, Planned)
    (sentence,) = [each for each in found.plan.reasons if each.startswith("reserves of")]
    assert sentence.startswith(said)
    assert "activations 0.14 to 1.14 GiB (" in sentence or "unknown" in said
    assert found.plan.memory
    assert found.plan.memory["leastReserves"] < found.plan.memory["activations"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--enable-lora", "--max-loras=2"], "LoRA slots, 2 of rank 16: "),
        (["--speculative-config.method=mtp"], "draft heads of mtp: "),
        (["--speculative-config.method=draft_model"], "the draft of --speculative-config is not counted, since"),
    ],
)
def test_slots_and_drafts_are_told_in_the_plan(arguments: list[str], said: str) -> None:
    found = planned(spec(maxModelLen=2048, dtype="float16", extraArgs=arguments), A10G)
    assert any(each.startswith(said) for each in found.reasons)
    plain = planned(spec(maxModelLen=2048, dtype="float16"), A10G)
    assert found.memory
    assert plain.memory
    assert found.memory.keys() - plain.memory.keys() <= {"lora", "speculation"}
    if "not counted" not in said:
        assert found.memory["kvCache"] < plain.memory["kvCache"]


def test_a_layout_that_the_least_reserves_would_let_fit_says_so() -> None:
    one = declared_classes([{"name": "A10G"}])
    found = plan("support-bot", spec(maxModelLen=5120, dtype="float16"), MISTRAL, one)
    assert isinstance(found, NothingFits)
    assert found.shortfall.endswith("; with the least reserves that vLLM was seen to hold, 0.25 GiB, it would fit")


def test_a_plan_that_nothing_holds_says_what_would() -> None:
    one = declared_classes([{"name": "A10G"}])
    found = plan("support-bot", spec(maxModelLen=8192, dtype="float16"), MISTRAL, one)
    assert isinstance(found, Rejection)
    assert found.rule == "Memory"
    assert found.reason.startswith("A10G, tensor-parallel size 1: each GPU needs 23.68 GiB")
    assert "; a context of 4720 tokens fits on 1 x A10G: set spec.serving.maxModelLen to at most that" in found.reason


def test_without_known_gpus_a_plan_is_what_it_was() -> None:
    found = planned(spec())
    assert (found.tensor_parallel_size, found.max_model_len) == (1, 32768)


def test_a_resource_that_is_named_is_the_only_one_that_is_taken() -> None:
    parts = declared_classes(
        [{"name": "A100-80"}, {"name": "part", "memory": "40Gi", "resource": "nvidia.com/mig-3g.40gb"}]
    )
    asked = {"resource": "nvidia.com/mig-3g.40gb"}
    found = planned(spec(maxModelLen=4096, accelerator=asked), parts)
    assert found.accelerator == "nvidia.com/mig-3g.40gb"
    assert plan("support-bot", spec(accelerator={"resource": "amd.com/gpu"}), MISTRAL, A10G) == Rejection(
        "NoAccelerators",
        "no kind of GPU is asked for as amd.com/gpu; set spec.serving.accelerator.resource to nvidia.com/gpu",
    )


@pytest.mark.parametrize(
    ("serving", "wanted"),
    [
        ({}, Request()),
        ({"maxModelLen": 4096, "dtype": "float16"}, Request(4096, dtype="float16")),
        ({"tensorParallelSize": 2, "gpuMemoryUtilization": 0.5}, Request(tensor_parallel=2, utilization=0.5)),
        (
            {"extraArgs": ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 2}']},
            Request(engine=EngineSetup(draft=Draft("mtp", 2))),
        ),
        (
            {"extraArgs": ["--speculative-config.method=eagle3", "--speculative_config.num_speculative_tokens=3"]},
            Request(engine=EngineSetup(draft=Draft("eagle3", 3))),
        ),
        ({"extraArgs": ["-sc", "{"]}, Request(engine=EngineSetup(draft=Draft("", 1)))),
        (
            {"extraArgs": ["--enable-lora", "--max-loras=4", "--max-lora-rank", "64"]},
            Request(engine=EngineSetup(slots=AdapterSlots(4, 64))),
        ),
        ({"extraArgs": ["--enable_lora"]}, Request(engine=EngineSetup(slots=AdapterSlots(1, 16)))),
        (
            {"extraArgs": ["--max-num-seqs=64", "--enforce-eager"]},
            Request(batched_sequences=64, engine=EngineSetup(eager=True)),
        ),
        (
            {"extraArgs": ["--max_num_batched_tokens", "4096", "--kv-cache-dtype=fp8_e5m2"]},
            Request(batched_tokens=4096, cache_dtype="fp8"),
        ),
        ({"extraArgs": ["--pipeline-parallel-size", "2"]}, Request(pipeline_parallel=2)),
    ],
)
def test_what_a_spec_says_of_memory_is_what_is_asked(serving: dict[str, Any], wanted: Request) -> None:
    assert request_of(spec(**serving)) == wanted


def claimed(**serving: Any) -> FineTunedModelSpec:
    accelerator = {"allocation": "DynamicResources"}
    return spec(dtype="float16", accelerator=accelerator, **serving)


PUBLISHED = declared_classes([{"name": "A10G", "perNode": 4, "resource": "gpu.nvidia.com"}])


def test_a_claim_asks_for_the_memory_that_the_plan_needs_and_the_chosen_kind_has_it() -> None:
    short, long = (planned(claimed(maxModelLen=length), PUBLISHED) for length in (1024, 4096))
    floors = [int(str(each.device_selector).partition("quantity('")[2].partition("Mi')")[0]) for each in (short, long)]
    assert (short.accelerator, short.gpus) == ("gpu.nvidia.com", 1)
    assert 17_000 < floors[0] < floors[1] <= 23028
    assert str(long.device_selector) == (
        f"device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('{floors[1]}Mi')) >= 0"
    )


def test_gpus_are_taken_as_they_are_allocated_and_a_wrong_allocation_names_the_right_one() -> None:
    assert planned(spec(maxModelLen=4096), [*PUBLISHED, *A10G]).device_selector is None
    only_published = plan("support-bot", spec(), MISTRAL, PUBLISHED)
    assert only_published == Rejection(
        "NoAccelerators",
        "all GPUs are published in ResourceSlices; set spec.serving.accelerator.allocation to DynamicResources",
    )
    for classes in ((), A10G):
        none_published = plan("support-bot", claimed(), MISTRAL, classes)
        assert isinstance(none_published, Rejection)
        assert none_published.reason.startswith("no GPU is published in ResourceSlices of gpu.nvidia.com; install its")
