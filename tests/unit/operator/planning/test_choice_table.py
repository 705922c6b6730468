"""Public models on common GPUs get the plans of a table: verdicts.yaml, read beside configs.yaml."""

from math import ceil
from pathlib import Path

import pytest
import yaml

from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.planning.model.quantization import AWQ, NONE
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.outcome import NoFit, Sizing
from ftm_operator.planning.sizing.request import Request
from tests.unit.operator.planning.catalogue import MODELS, base_facts_of, model_of

CLASSES = {"T4": 4, "A10G": 4, "L4": 8, "A100-40": 8, "A100-80": 8, "H100": 8, "H200": 8}
WAYS = {
    "stored": Request(),
    "awq": Request(scheme=AWQ),
    "float16": Request(scheme=NONE, dtype="float16"),
}
CONTEXT = 8192
VERDICTS = yaml.safe_load((Path(__file__).parent / "verdicts.yaml").read_text())


def chosen(name: str, accelerator: str, way: str) -> Sizing | NoFit:
    classes = declared_classes([{"name": accelerator, "perNode": CLASSES[accelerator]}])
    model = model_of(name)
    asked = WAYS[way]
    request = Request(min(CONTEXT, model.max_context), scheme=asked.scheme, dtype=asked.dtype)
    return size(model, request, classes)


def verdict(name: str, accelerator: str, way: str) -> str:
    found = chosen(name, accelerator, way)
    if isinstance(found, NoFit):
        return found.rule
    layout = found.option.layout
    return f"tp {layout.tensor_parallel}" + (f" pp {layout.pipeline_parallel}" if layout.pipeline_parallel > 1 else "")


def test_the_table_has_every_model_on_every_class() -> None:
    assert len(MODELS) >= 60
    assert VERDICTS.keys() == MODELS.keys()
    assert all(row.keys() == CLASSES.keys() for row in VERDICTS.values())


@pytest.mark.parametrize("name", MODELS)
def test_each_model_is_placed_as_the_table_says(name: str) -> None:
    found = {accelerator: [verdict(name, accelerator, way) for way in WAYS] for accelerator in VERDICTS[name]}
    assert found == VERDICTS[name]


@pytest.mark.parametrize("name", MODELS)
def test_a_config_alone_tells_how_many_parameters_a_model_has(name: str) -> None:
    """`parameters` are as published; `about` is where biases or a vision tower's details are left out."""
    published = MODELS[name].get("parameters")
    if published:
        assert base_facts_of(name).parameters == published
    else:
        assert base_facts_of(name).parameters == pytest.approx(MODELS[name]["about"], rel=0.02)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("accelerator", CLASSES)
def test_no_plan_promises_more_than_plain_arithmetic_allows(name: str, accelerator: str) -> None:
    """All ranks together hold at least the 16-bit weights and a sequence's keys and values of every full layer."""
    found = chosen(name, accelerator, "float16")
    if isinstance(found, NoFit):
        return
    model, option = found.model, found.option
    weights = base_facts_of(name).parameters * 2
    full = sum(layer.kind == "full" for layer in model.attention)
    token = 0 if model.latent else 2 * model.key_value_heads * model.head_size * 2
    cache = 8 * option.context * token * full
    assert weights + cache <= option.layout.gpus * option.memory.budget
    fewest = ceil((weights + cache) / option.memory.budget)
    assert option.layout.gpus <= 4 * fewest
