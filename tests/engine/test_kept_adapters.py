"""Adapters as they are kept are what vLLM's own loader reads: its scalings and ranks, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from vllm.config.lora import LoRAConfig
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper

from ftm_jobs.adapters.dynamic_serving import served_rank
from ftm_jobs.checkpoint.adapter_config import parse_adapter_config
from tests.models.llamas import LINEAR, Kind, make_adapters, make_base

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all-linear": {"target_modules": "all-linear"},
    "rsLoRA": {"use_rslora": True},
    "patterns": {"rank_pattern": {"layers.0.self_attn.q_proj": 8, "q_proj": 2}, "alpha_pattern": {".*v_proj": 3}},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), Kind())


@pytest.mark.parametrize("lora", KINDS.values(), ids=KINDS)
def test_vllm_scales_each_layer_as_we_say_and_reserves_the_rank_that_we_say(
    tmp_path: Path, base: Path, lora: dict[str, Any]
) -> None:
    (adapter,) = make_adapters(tmp_path, base, Kind(lora=lora))
    helper = PEFTHelper.from_local_dir(str(adapter), None)
    loaded = LoRAModel.from_local_checkpoint(str(adapter), set(LINEAR), helper, lora_model_id=1, device="cpu")
    config = parse_adapter_config("config", json.loads((adapter / "adapter_config.json").read_bytes()))
    assert len(loaded.loras) == 14
    for name, layer in loaded.loras.items():
        assert layer.rank == config.rank_of(name)
        assert layer.scaling == pytest.approx(config.scaling_of(name))
        assert layer.lora_a.shape[0] == layer.rank
    rank = served_rank(config, [])
    helper.validate_legal(_room(rank))
    with pytest.raises(ValueError, match=f"LoRA rank {rank} is greater than"):
        helper.validate_legal(_room(rank - 1))


@pytest.mark.parametrize(
    "lora", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}], ids=lambda lora: next(iter(lora))
)
def test_what_is_refused_here_is_refused_by_vllm(tmp_path: Path, base: Path, lora: dict[str, Any]) -> None:
    (adapter,) = make_adapters(tmp_path, base, Kind(lora=lora))
    with pytest.raises(ValueError, match=r"does not yet support|only supports|not supported"):
        PEFTHelper.from_local_dir(str(adapter), None).validate_legal(_room(512))


def _room(rank: int) -> LoRAConfig:
    config = LoRAConfig(max_lora_rank=512)
    config.max_lora_rank = rank  # type: ignore[assignment]
    return config
