"""Layers that an adapter promises and lacks: named as PEFT names them, and left as the base has them."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file, save_file

from ftm_jobs.adapters.promised_layers import Targets
from tests.models.llamas import Kind, make_adapters, make_base, merged_by_peft
from tests.step_fixtures import Run

PEFTS = [
    {"target_modules": ["q_proj", "dense"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [1, 3]},
    {"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "layers"]},
    {"target_modules": ["q_proj"], "exclude_modules": ["layers.1.q_proj"]},
    {"target_modules": ["q_proj"], "exclude_modules": r"a\..*"},
    {"target_modules": r"a\.layers\.\d\.(q|v)_proj"},
    {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head", "b"]},
    {"target_modules": ["a.layers.1.v_proj"], "layers_to_transform": [3]},
]


@pytest.mark.parametrize("content", PEFTS, ids=[str(number) for number in range(len(PEFTS))])
def test_peft_names_the_same_layers(content: dict[str, Any]) -> None:
    fields = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save")
    config = SimpleNamespace(**{name: content.get(name) for name in fields}, target_parameters=None)
    modules = [
        f"{root}.{stack}.{number}.{last}"
        for root in "ab"
        for stack in ("layers", "h")
        for number in (1, 2, 3)
        for last in ("q_proj", "v_proj", "experts.1.q_proj", "q_proj.dense")
    ]
    for module in [*modules, "lm_head", "q_proj", "layers.1.q_proj"]:
        assert Targets(content).named(module) is bool(check_target_module_exists(config, module)), module


def test_missing_layers_are_named_and_stay_as_the_base_has_them(tmp_path: Path, run: Run) -> None:
    kind = Kind()
    base = make_base(tmp_path / "base", kind)
    (adapter,) = make_adapters(tmp_path, base, kind)
    weights = adapter / "adapter_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if ".layers.1.mlp." not in name}
    save_file(kept, weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        merged = merged_by_peft(base, [adapter], [1.0], kind.dtype)
    (warning,) = [str(each.message) for each in caught if "missing adapter keys" in str(each.message)]
    out = tmp_path / "out"
    report = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--out", out.as_uri())
    (note,) = report.notes
    named = note.partition("promises: ")[2].partition(";")[0].split(", ")
    assert len(named) == 3
    assert all(f"base_model.model.{name}.lora_A." in warning for name in named)
    found = load_file(out / "model.safetensors")
    assert all(found[name].equal(tensor) for name, tensor in merged.items())
