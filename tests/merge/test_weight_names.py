"""The walk through transformers' table of weights: each entry is handled, or refused by name.

A class for each key of the table is made without weights. transformers itself says which transforms it has, and under
which names it saves its weights: each weight must be found again on that disk.
"""

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest
import transformers
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    GroupWeightRename,
    PrefixChange,
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    revert_weight_conversion,
)

from ftm_jobs.adapters.base_names import BaseNames
from ftm_jobs.transformers_tables.transforms import Stored
from ftm_jobs.transformers_tables.weight_names import TABLE, of_key, submodels, transforms
from tests.tables.weight_names import (
    base_classes,
    class_types,
    conversions,
    entry_of,
    made,
    mappings,
    usual_classes,
    written,
)

pytestmark = pytest.mark.filterwarnings("ignore")

CLASS_FIELDS = {"prefix", "type"}
"""Fields of a class in the table that it needs no model for."""
COMPUTED = {WeightRenaming, PrefixChange, GroupWeightRename, WeightConverter}
"""Kinds of transforms that transformers_tables/transforms.py computes as transformers does."""
NEED_LIBRARIES = {"FastVlmForConditionalGeneration", "FastVlmModel"}
"""Their vision tower is of timm, which is not installed here."""
REFUSED = {"Chunk", "Concatenate", "Transpose", "Interleave", "PermuteForRope", "ErnieFuseAndSplitTextVisionExperts"}
"""Operations that make a weight of others, or of a part of one, which a merge refuses by name."""


def test_the_table_is_that_of_the_pinned_transformers() -> None:
    """`make tables` writes it anew."""
    table = json.loads(TABLE.read_text())
    assert table["transformers"] == transformers.__version__
    assert table["mappings"] == mappings()
    assert table["base_classes"] == base_classes()
    assert table["usual_classes"] == usual_classes()
    assert set(table["classes"]) <= set(class_types())


def test_every_entry_of_transformers_table_is_handled_or_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    for key, entries in conversions().items():
        ours = of_key(key)
        assert ours is not None
        for transform, entry in zip(ours, entries, strict=True):
            known = type(entry) in COMPUTED and {operation.split()[0] for operation in transform.operations} <= REFUSED
            stored = Stored(tuple(("a",) for _ in transform.sources), transform if transform.operations else None)
            if stored.stacked_experts or stored.merged_experts:
                counts["handled"] += 1
            else:
                counts["refused by name" if known else "unknown"] += 1
    with capsys.disabled():
        print(f"\n{len(conversions())} keys of transformers {transformers.__version__}: {dict(counts)}")
    assert counts["unknown"] == 0


def test_every_weight_is_found_again_on_the_disk_that_transformers_writes(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    classes = json.loads(TABLE.read_text())["classes"]
    for name in chosen_classes():
        model: Any = made(getattr(transformers, name))
        assert entry_of(model) == {field: value for field, value in classes[name].items() if field not in CLASS_FIELDS}
        config = model.config.to_dict() | {"architectures": [name], "model_type": model.config.model_type}
        theirs = get_model_conversion_mapping(model)
        assert [plain(transform) for transform in theirs] == [
            (ours.sources, ours.targets, ours.operations, ours.scope, ours.prefix) for ours in transforms(name, config)
        ], name
        weights = model.state_dict()
        model._weight_conversions = get_model_conversion_mapping(model, add_legacy=False)
        disk = revert_weight_conversion(model, dict(weights))
        names = BaseNames(disk, config)
        for weight in weights:
            (stored,) = names.stored(weight) or (None,)
            counts[kind(stored)] += 1
            assert stored is not None, f"{name} {weight}"
            assert stored.tensor is None or disk[stored.tensor].shape == weights[weight].shape, f"{name} {weight}"
    with capsys.disabled():
        print(f"\nweights of {len(chosen_classes())} classes: {dict(counts)}")
    assert set(counts) == {"renamed", "merged experts", "refused by name"}


@cache
def chosen_classes() -> tuple[str, ...]:
    """Returns a class for each key of the table, of those that this machine can make: one with a head, if it can be."""
    made_classes = {
        name: entry for name, entry in json.loads(TABLE.read_text())["classes"].items() if "unmade" not in entry
    }
    ranked = sorted(made_classes, key=lambda name: ("ForCausal" not in name, "ForConditional" not in name, name))
    chosen: dict[str, str] = {}
    for name in ranked:
        for submodel in submodels(name, {"model_type": made_classes[name]["type"]}):
            for key in (submodel.class_name, submodel.model_type):
                if of_key(key):
                    chosen.setdefault(key, name)
    return tuple(sorted(set(chosen.values()) - NEED_LIBRARIES))


def kind(stored: Stored | None) -> str:
    if stored is None:
        return "unknown"
    if stored.merged_experts:
        return "merged experts"
    return "renamed" if stored.stacked_experts else "refused by name"


def plain(transform: WeightTransform) -> tuple[Any, ...]:
    operations = tuple(map(written, getattr(transform, "operations", ())))
    return (
        tuple(transform.source_patterns),
        tuple(transform.target_patterns),
        operations,
        transform.scope_prefix,
        transform.base_model_prefix or "",
    )
