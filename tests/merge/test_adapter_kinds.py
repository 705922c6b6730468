"""Kinds of adapters by name, judged by PEFT itself: its fields, its kinds, and which of them it can merge."""

import dataclasses
import inspect
from typing import Any

import pytest
from peft import LoraConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer

from ftm_jobs.checkpoint.refusals.adapter_kinds import (
    MERGED_BY_PEFT,
    NEUTRAL_FIELDS,
    NEVER_MERGED,
    READ_FIELDS,
    REFUSED_FIELDS,
    refuse_other_kinds,
)
from ftm_jobs.errors import InvalidInput

LABEL = "s3://models/a/adapter_config.json"
LISTS = (NEUTRAL_FIELDS, READ_FIELDS, REFUSED_FIELDS.keys())


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(LoraConfig)])
def test_every_field_of_pefts_lora_config_is_neutral_read_or_refused(field: str) -> None:
    assert sum(field in names for names in LISTS) == 1


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}, "trained with MLX"),
        ({"config": {"r": 8}, "model_class": "LlamaAdapterModel"}, "AdapterHub"),
        ({"r": 8}, "it has no peft_type"),
    ],
)
def test_an_adapter_of_another_program_is_named(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        refuse_other_kinds(LABEL, config)


def test_each_other_kind_of_adapter_is_said_to_be_merged_by_peft_where_peft_merges_it() -> None:
    kinds = {kind.value for kind in PeftType} - {"LORA"}
    assert kinds == MERGED_BY_PEFT | NEVER_MERGED
    assert {kind for kind in kinds if _merges(PeftType(kind))} == MERGED_BY_PEFT


def _merges(kind: PeftType) -> bool:
    """Returns whether the kind's layers have a merge that does not raise at once."""
    layer = getattr(PEFT_TYPE_TO_TUNER_MAPPING[kind], "tuner_layer_cls", None)
    if layer is None:
        return False
    module = inspect.getmodule(layer)
    classes: list[Any] = [each for _, each in inspect.getmembers(module, inspect.isclass) if issubclass(each, layer)]
    sources = [inspect.getsource(each.merge) for each in classes if each.merge is not BaseTunerLayer.merge]
    return any("raise NotImplementedError" not in source for source in sources)
