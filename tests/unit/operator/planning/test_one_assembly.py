"""`ftm plan --gpus` and the operator say the same of the same model: reasons, remedies and what was rejected."""

from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import MOST_REJECTED, FineTunedModel
from ftm_operator.command.plan import format_plan, plan_json
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.planning.sizing.spec_sizing import NothingFits
from tests.unit.operator.objects import adapter_facts, resource
from tests.unit.operator.planning.catalogue import MODELS, base_facts_of
from tests.unit.operator.planning.test_choice_table import CLASSES

LISTS: dict[str, list[AcceleratorClass]] = {
    **{name: declared_classes([{"name": name, "perNode": count}]) for name, count in CLASSES.items()},
    "all": declared_classes([{"name": name, "perNode": count, "nodes": 2} for name, count in CLASSES.items()]),
}
SPECS: dict[str, dict[str, Any]] = {"as it is": {}, "AWQ": {"objective": "Throughput"}}


def said_by_both(name: str, fields: dict[str, Any], classes: list[AcceleratorClass]) -> None:
    model = FineTunedModel.model_validate(resource(**fields))
    facts = Facts(base=base_facts_of(name), adapters=(adapter_facts(),))
    result = plan(model.metadata.name, model.spec, facts, classes)
    answer, table = plan_json(result, sized=True), format_plan(model, result)
    if isinstance(result, Planned):
        status = result.plan
        assert answer["reasons"] == list(status.reasons)
        assert answer["rejected"][:MOST_REJECTED] == [each.to_json() for each in status.rejected or ()]
        assert all(f"\n  {reason}" in table for reason in status.reasons)
        return
    assert "; ".join(answer["reasons"]) == result.reason
    assert answer["rule"] == result.rule
    remedies = result.remedies if isinstance(result, NothingFits) else ()
    assert answer["reasons"][1:] == list(remedies)
    assert all(f"\n  {remedy}" in table for remedy in remedies)


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", MODELS)
def test_the_offline_answer_is_the_operators(name: str, fields: dict[str, Any]) -> None:
    for classes in LISTS.values():
        said_by_both(name, fields, classes)


def test_the_offline_answer_says_that_an_mlp_is_padded() -> None:
    model = FineTunedModel.model_validate(
        resource(quantization={"method": "AWQ"}, serving={"tensorParallelSize": 8, "maxModelLen": 4096})
    )
    facts = Facts(base=base_facts_of("qwen2-72b"), adapters=(adapter_facts(),))
    result = plan(model.metadata.name, model.spec, facts, LISTS["A100-80"])
    sentence = "MLP width 29568 padded with zeros to 29696: whole groups of 128 on each of 8 ranks"
    assert sentence in plan_json(result, sized=True)["reasons"]
    assert sentence in format_plan(model, result)
