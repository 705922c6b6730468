"""In mode Dynamic a plan has room for adapters beside the base: their rank, GPU slots and host memory, with reasons."""

from collections.abc import Sequence
from typing import Any

import pytest

from ftm_jobs.contract.facts import AdapterFacts, Facts
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelSpec, Plan, PlannedAdapters
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.planning.input_hashes import plan_input_hash
from ftm_operator.planning.memory.lora import RANKS
from ftm_operator.planning.plan import Planned, again, plan
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.adapter_room import rank_for
from ftm_operator.planning.sizing.request import KnownEngine
from ftm_operator.planning.sizing.spec_sizing import NothingFits
from tests.unit.operator.objects import adapter_facts, resource
from tests.unit.operator.planning.catalogue import base_facts_of

A10G = declared_classes([{"name": "A10G", "perNode": 4}])


def spec(adapters: int = 1, mode: str = "Dynamic", scale: float = 1.0, **serving: Any) -> FineTunedModelSpec:
    named = [{"name": f"a{n}", "uri": "s3://models/adapters/a", "scale": scale} for n in range(adapters)]
    return FineTunedModel.model_validate(resource(mode=mode, adapters=named, serving=serving)).spec


def facts(*ranks: int, **changes: Any) -> Facts:
    adapters = tuple(adapter_facts(rank=rank, **changes) for rank in ranks)
    return Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=adapters)


def answer(
    asked: FineTunedModelSpec,
    found: Facts,
    classes: Sequence[AcceleratorClass] = (),
    others: tuple[AdapterFacts, ...] = (),
) -> Planned | Rejection:
    return plan("support-bot", asked, found, classes, engine=KnownEngine(adapters=others))


def planned(*given: Any, **more: Any) -> Plan:
    found = answer(*given, **more)
    assert isinstance(found, Planned), found
    return found.plan


def room(found: Plan) -> tuple[int, int, int]:
    assert found.adapters
    return found.adapters.max_rank, found.adapters.slots, found.adapters.cpu_slots


@pytest.mark.parametrize("classes", [(), A10G])
def test_a_base_without_adapters_has_room_for_those_that_come(classes: Sequence[AcceleratorClass]) -> None:
    found = planned(spec(0), facts(), classes)
    assert (found.mode, found.quantization, room(found)) == ("Dynamic", "None", (16, 4, 32))
    assert found.reasons[0] == "Dynamic: from spec.mode; the base answers, and 0 adapters of the spec beside it"
    assert "adapters up to rank 16: the least that is planned" in found.reasons
    assert "not quantized: mode Dynamic serves the base as it is stored" in found.reasons


def test_a_plan_of_mode_merged_has_no_room_for_adapters() -> None:
    assert planned(spec(mode="Merged"), facts(8), A10G).adapters is None


def test_the_largest_rank_is_rounded_up_to_one_that_vllm_takes() -> None:
    found = planned(spec(2), facts(8, 48), A10G)
    assert room(found)[0] == 64
    assert "adapters up to rank 64: the largest of those that there are; vLLM takes 64 for 48" in found.reasons
    assert [rank_for(rank) for rank in (1, 2, 9, 17, 300, 321, 512)] == [1, 8, 16, 32, 320, 512, 512]
    assert all(rank_for(rank) == rank for rank in RANKS)


def test_as_many_slots_as_adapters_from_4_to_8_and_host_memory_for_32_or_all() -> None:
    counts = {count: room(planned(spec(1), facts(8), others=(adapter_facts(),) * (count - 1))) for count in (1, 6, 40)}
    assert counts == {1: (16, 4, 32), 6: (16, 6, 32), 40: (16, 8, 40)}


def test_fewer_slots_rather_than_another_gpu_and_the_reason_says_so() -> None:
    found = planned(spec(12, maxModelLen=4096, dtype="float16"), facts(*[64] * 12), A10G)
    assert (found.gpus, room(found)) == (1, (64, 1, 32))
    assert "1 adapter in one batch: 8 would take more GPUs" in found.reasons
    another = planned(spec(12, maxModelLen=4096, dtype="float16", dynamic={"slots": 8}), facts(*[64] * 12), A10G)
    assert (another.gpus, room(another)) == (2, (64, 8, 32))


def test_what_the_spec_says_goes_before_and_its_rank_is_rounded_up_too() -> None:
    found = planned(spec(1, dynamic={"maxRank": 20, "slots": 2, "cpuSlots": 5}), facts(8), A10G)
    assert found.adapters == PlannedAdapters(max_rank=32, slots=2, cpu_slots=5, host_bytes=5_000_000)
    assert "adapters up to rank 32: from spec.serving.dynamic.maxRank; vLLM takes 32 for 20" in found.reasons
    assert "2 adapters in one batch: from spec.serving.dynamic.slots" in found.reasons
    assert room(planned(spec(1, dynamic={"cpuSlots": 2}), facts(8)))[1] == 2


def test_a_pods_memory_has_room_for_the_adapters_of_each_rank() -> None:
    asked, large = spec(1, tensorParallelSize=2), facts(16, weight_bytes=2**30)
    merged, found = planned(spec(mode="Merged", tensorParallelSize=2), large, A10G), planned(asked, large, A10G)
    assert merged.host
    assert found.host
    assert int(found.host["memory"][:-2]) - int(merged.host["memory"][:-2]) == 2 * 32 * 1024


@pytest.mark.parametrize(
    ("asked", "found", "sentence"),
    [
        (
            spec(2),
            facts(8, 8, dynamic_objections=("vLLM has no DoRA",)),
            'adapter "a0": vLLM has no DoRA; set spec.mode to Merged',
        ),
        (spec(scale=0.5), facts(8), 'adapter "a0": scale 0.5 applies only to a merge; set spec.mode to Merged'),
        (
            spec(1, dynamic={"maxRank": 32}),
            facts(64),
            'adapter "a0" has rank 64, and spec.serving.dynamic.maxRank is 32; set it to 64 or more',
        ),
    ],
)
def test_an_adapter_that_cannot_be_served_beside_the_base_is_refused_by_name(
    asked: FineTunedModelSpec, found: Facts, sentence: str
) -> None:
    refused = answer(asked, found, A10G)
    assert isinstance(refused, Rejection)
    assert refused.reason == sentence


def test_a_scale_that_was_inspected_is_forgotten_once_the_spec_has_another() -> None:
    assert planned(spec(), facts(8, dynamic_objections=("scale 0.5 applies only to a merge",))).mode == "Dynamic"


def test_auto_merges_and_says_what_could_not_have_been_served_beside_the_base() -> None:
    refused = facts(8, dynamic_objections=("vLLM has no DoRA",))
    folded = "Merged: 1 adapter folded into the weights"
    assert planned(spec(mode="Auto"), refused).reasons[0] == (
        f'{folded}; not served beside the base: adapter "a0": vLLM has no DoRA'
    )
    assert planned(spec(mode="Merged"), refused).reasons[0] == folded
    assert planned(spec(mode="Auto"), facts(8)).reasons[0] == folded


def test_a_replica_does_not_span_nodes_and_the_remedies_are_of_mode_dynamic() -> None:
    few = declared_classes([{"name": "A10G", "perNode": 1, "nodes": 4}])
    refused = answer(spec(1, maxModelLen=8192, dtype="float16"), facts(8), few)
    assert isinstance(refused, NothingFits)
    assert "2 x A10G on 2 nodes hold it, which mode Dynamic does not span: set spec.mode to Merged" in refused.reason
    assert "AWQ" not in refused.reason


def test_llama_cpp_makes_a_gguf_file_of_the_base_and_has_no_slots() -> None:
    found = answer(spec(1, device="CPU"), facts(8, dynamic_objections=("vLLM has no DoRA",)))
    assert isinstance(found, Planned)
    assert (found.plan.mode, found.plan.quantization, found.plan.adapters) == ("Dynamic", "GGUF Q4_K_M", None)
    assert not found.decision.merges


def test_a_plan_stays_while_the_specs_adapters_are_within_it() -> None:
    asked, first = spec(1), planned(spec(1), facts(8))
    assert again(asked, facts(16), first)
    assert again(spec(2), facts(8, 16), first)
    assert again(asked, facts(17), first) is None
    assert again(asked, facts(8, dynamic_objections=("vLLM has no DoRA",)), first) is None


def test_adapters_that_come_and_go_change_no_input_of_a_dynamic_plan() -> None:
    one, two = (plan_input_hash(spec(count), facts(8), None) for count in (1, 2))
    assert one == two
    assert one != plan_input_hash(spec(1, dynamic={"slots": 2}), facts(8), None)
    merged = [plan_input_hash(spec(count, mode="Merged"), facts(8), None) for count in (1, 2)]
    assert len({one, *merged}) == 3
