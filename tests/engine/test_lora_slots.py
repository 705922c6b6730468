"""The bytes of adapter slots are those that vLLM's own LoRA layers take, counted on torch's meta device."""

from typing import Any, cast

import pytest
import torch
from vllm.config import set_current_vllm_config
from vllm.config.lora import LoRAConfig
from vllm.lora.model_manager import LoRAModelManager

from ftm_operator.planning.memory.engine_setup import AdapterSlots
from ftm_operator.planning.memory.lora import slot_bytes
from ftm_operator.planning.rules.layout import Layout
from tests.engine.models import as_rank, build
from tests.unit.operator.planning.catalogue import model_of

SLOTS = AdapterSlots(3, 32)
UNLIKE = ["gemma-4-31b-text", "gemma-4-e2b-text", "lfm2-1.2b", "falcon-h1-7b", "nemotron-h-8b", "qwen3.5-27b-text"]
"""Keys that are values, layers without keys, short convolutions, Mamba 2 and delta nets."""


def theirs(name: str, tp: int) -> int:
    """Bytes of all pairs of matrices that vLLM makes for its slots on one rank."""
    rank = build(name, tp)
    config = LoRAConfig(max_lora_rank=32, max_loras=SLOTS.count, lora_dtype=torch.bfloat16)
    rank.config.lora_config = config
    device = torch.device("meta")
    with set_current_vllm_config(rank.config), as_rank(tp, 1, 0), device:
        manager = LoRAModelManager(cast(Any, rank.model), 8, 64, 100, config, device, rank.config)
    held = {
        id(tensor): tensor.numel() * tensor.element_size()
        for layer in manager.modules.values()
        for matrix in ("lora_a_stacked", "lora_b_stacked")
        for tensor in _tensors(getattr(layer, matrix))
    }
    return sum(held.values())


def _tensors(value: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (value,) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize(
    ("name", "tp"),
    [
        *((name, tp) for name in ("llama-3.1-8b", "qwen3-32b", "qwen2.5-14b", "mistral-7b-v0.3") for tp in (1, 2, 8)),
        *((name, tp) for name in UNLIKE for tp in (1, 2)),
    ],
)
def test_slots_take_what_vllm_allocates(name: str, tp: int) -> None:
    """Families differ in whether the embedding and the output layer have slots."""
    ours = slot_bytes(model_of(name), Layout(tp, 1, 1), SLOTS, "bfloat16")
    assert theirs(name, tp) in (ours.least, ours.most)


@pytest.mark.parametrize("name", ["phi-3-mini-4k", "granite-4.0-h-1b"])
def test_layers_that_a_config_alone_does_not_say_are_stored_in_one_are_counted_as_several(name: str) -> None:
    ours = slot_bytes(model_of(name), Layout(1, 1, 1), SLOTS, "bfloat16")
    assert theirs(name, 1) <= ours.most
