"""The planner sizes for AWQ what the AWQ Job makes: the same groups, the same padded widths."""

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_jobs.quantize.awq.layout import plan_layout, quantized_linears
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.planning.memory.weights import heaviest_stage, rank_parts
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.padding import padded, padded_widths
from ftm_operator.planning.model.quantization import AWQ, Scheme
from ftm_operator.planning.model.tensor_names import NOT_PACKED, module_of
from ftm_operator.planning.plan import Planned, plan
from tests.unit.operator.objects import adapter_facts, resource
from tests.unit.operator.planning.catalogue import MODELS, base_facts_of, config, model_of

NODES = declared_classes([{"name": "A100-80", "perNode": 8, "nodes": 2}])
MAKING = Scheme("awq", 4, 128, zero_point=True, in_the_making=True)


def planned(name: str, ranks: int) -> Planned | None:
    serving = {"tensorParallelSize": ranks, "maxModelLen": 1024}
    asked = FineTunedModel.model_validate(resource(serving=serving, quantization={"method": "AWQ"})).spec
    found = plan("support-bot", asked, Facts(base=base_facts_of(name), adapters=(adapter_facts(),)), NODES)
    return found if isinstance(found, Planned) else None


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_the_job_takes_the_groups_and_widths_that_were_planned(name: str, ranks: int) -> None:
    found = planned(name, ranks)
    shapes = {
        group.name.replace("*", "0"): group.shape
        for group in base_facts_of(name).tensors or ()
        if module_of(group.name) not in NOT_PACKED  # whose shapes here count what lies beside them
    }
    if found is None or not any("down_proj" in each.name or "w2" in each.name for each in quantized_linears(shapes)):
        return  # refused by the planner
    group = found.plan.group_size
    assert group
    made = plan_layout(config(name), shapes, group, (ranks,))

    scheme = Scheme("awq", 4, group, zero_point=True, in_the_making=True)
    assert made.group_size == group
    assert dict(made.padded) == padded_widths(model_of(name), scheme, ranks)


@pytest.mark.parametrize(("ranks", "width"), [(1, 29568), (2, 29696), (4, 29696), (8, 29696)])
def test_a_width_that_forbids_its_groups_is_padded_and_sized_so(ranks: int, width: int) -> None:
    found = planned("qwen2-72b", ranks)
    assert found
    assert (found.plan.group_size, found.plan.tensor_parallel_size) == (128, ranks)
    said = [reason for reason in found.plan.reasons if "padded" in reason]
    if width == 29568:
        assert said == []
    else:
        whole = f"whole groups of 128 on each of {ranks} ranks"
        assert said == [f"MLP width 29568 padded with zeros to {width}: {whole}"]


def test_padding_adds_to_the_weights_of_both_layers_of_each_mlp() -> None:
    model = architecture(base_facts_of("qwen2-72b"))
    before = {group.name: group.shape for group in model.tensors}
    after = {group.name: group.shape for group in padded(model, MAKING, 8).tensors}
    changed = {name.split(".")[-2]: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert changed == {
        "gate_proj": ((29568, 8192), (29696, 8192)),
        "up_proj": ((29568, 8192), (29696, 8192)),
        "down_proj": ((8192, 29568), (8192, 29696)),
    }


def test_the_zeros_are_among_the_weights_that_are_planned() -> None:
    found, model = planned("qwen2-72b", 8), model_of("qwen2-72b")
    assert found
    assert found.plan.memory
    without = heaviest_stage(model, rank_parts(model, 8, "float16", MAKING), 1).total
    added = 3 * model.layers * 8192 * (29696 - 29568) // 8 // 2  # bytes of a rank's 4-bit numbers
    assert added <= found.plan.memory["weights"] - without < 1.1 * added


def test_what_is_stored_quantized_is_not_padded_nor_what_that_would_swell() -> None:
    assert padded_widths(model_of("qwen2-72b"), AWQ, 8) == {}
    assert padded_widths(model_of("qwen1.5-moe-a2.7b"), MAKING, 8) == {}
