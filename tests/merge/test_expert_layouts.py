"""Experts adapted by PEFT before 0.19, where A and B have changed places: PEFT's result all the same, square or not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.merge.test_kinds import EXPERTS, merged, same
from tests.models import families
from tests.models.families import Adapter, load, make_adapter, make_family, merged_by_peft
from tests.places import Disk
from tests.step_fixtures import Run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

BF16 = torch.bfloat16
STACKED = {"model_type": "gemma4_text", "head_dim": 8, "global_head_dim": 8, "hidden_size_per_layer_input": 8} | {
    "vocab_size_per_layer_input": 64,
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention"],
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "tie_word_embeddings": True,
}
GATE_UP = Adapter({"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj"]})


@pytest.fixture
def before_0_19(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes PEFT read experts as it did: as it still does where it finds them transposed."""
    loaded = families._load

    def load_transposed(*arguments: Any) -> Any:
        model = loaded(*arguments)
        for module in model.modules():
            if hasattr(module, "gate_up_proj") and hasattr(module, "down_proj"):
                module.is_transposed = True
        return model

    monkeypatch.setattr(families, "_load", load_transposed)


def edit(adapter: Path, **fields: Any) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize("adapted", [EXPERTS, GATE_UP], ids=["both", "gate and up"])
@pytest.mark.parametrize("width", [24, 16], ids=["oblong", "square"])
@pytest.mark.parametrize("family", ["qwen3 moe", "stacked"])
@pytest.mark.usefixtures("before_0_19")
def test_experts_of_peft_0_18_are_what_it_made_of_them(
    family: str, width: int, adapted: Adapter, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = families.FAMILIES["qwen3 moe"] if family == "qwen3 moe" else STACKED
    monkeypatch.setitem(families.FAMILIES, family, kind | {"moe_intermediate_size": width})
    base = make_family(tmp_path / "base", family, BF16)
    names = [f"experts.{name.rpartition('.')[2]}" for name in adapted.lora["target_parameters"]]
    lora = {**adapted.lora, "target_parameters": names}
    adapter = make_adapter(tmp_path / "adapter", family, base, BF16, Adapter(lora))
    expected = merged_by_peft(family, base, BF16, [adapter], [1.0], None)
    edit(adapter, peft_version="0.18.1")
    assert same(load(family, merged(run, tmp_path, base, [adapter])), expected) == []
    edit(adapter, peft_version=None)
    if adapted is EXPERTS or width == 24:
        assert same(load(family, merged(run, tmp_path / "unsaid", base, [adapter])), expected) == []
        return
    sources = "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(tmp_path).artifacts
    assert (
        "adapts square experts, and nothing tells whether it was saved before PEFT 0.19"
        in run("merge", *sources).message
    )
