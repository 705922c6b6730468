"""Tiny real models: a Llama by transformers, LoRA adapters by PEFT, and what PEFT makes of them.

Medium ones, tens of MiB, come straight from bytes.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.unit.jobs.files import ADAPTER_CONFIG, LLAMA_CONFIG, Shapes, entries, safetensors

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Kind:
    """A base and adapters that a test wants."""

    dtype: torch.dtype = torch.bfloat16
    lora: Mapping[str, Any] = field(default_factory=dict)
    shard: str = "50GB"
    adapters: int = 1
    adapter_dtype: torch.dtype = torch.float32


def make_base(folder: Path, kind: Kind) -> Path:
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.to(kind.dtype).save_pretrained(folder, max_shard_size=kind.shard)
    return folder


def make_adapters(folder: Path, base: Path, kind: Kind) -> list[Path]:
    """Adapters with random A and B, as PEFT saves them."""
    made = []
    for number in range(kind.adapters):
        torch.manual_seed(10 + number)
        config = LoraConfig(**{"r": 4, "lora_alpha": 10, "target_modules": LINEAR, **kind.lora})
        model = get_peft_model(LlamaForCausalLM.from_pretrained(base, dtype=kind.dtype), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        made.append(folder / f"adapter-{number}")
        model.to(kind.adapter_dtype).save_pretrained(str(made[-1]), save_embedding_layers=False)
    return made


def merged_by_peft(
    base: Path, adapters: list[Path], scales: list[float], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    model: Any = LlamaForCausalLM.from_pretrained(base, dtype=dtype)
    names = [f"adapter{number}" for number in range(len(adapters))]
    model = PeftModel.from_pretrained(model, adapters[0], adapter_name=names[0])
    for name, folder in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(folder, adapter_name=name)
    for name, scale in zip(names, scales, strict=True):
        for layer in model.modules():
            if hasattr(layer, "set_scale"):
                layer.set_scale(name, scale)
    merged: dict[str, torch.Tensor] = model.merge_and_unload(adapter_names=names).state_dict()
    return merged


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def medium(folder: Path, layers: int = 5, width: int = 2048) -> tuple[Path, Path]:
    """A base of `layers` matrices of width², bf16, and an adapter of them: all that a merge sees of a model."""
    names = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(layers)]
    base: Shapes = {f"{name}.weight": ("BF16", (width, width)) for name in names}
    adapter: Shapes = {}
    for name in names:
        adapter[f"base_model.model.{name}.lora_A.weight"] = ("F32", (2, width))
        adapter[f"base_model.model.{name}.lora_B.weight"] = ("F32", (width, 2))
    made = folder / "base", folder / "adapter"
    config = {"config.json": LLAMA_CONFIG | {"hidden_size": width}}, {"adapter_config.json": ADAPTER_CONFIG}
    files = "model.safetensors", "adapter_model.safetensors"
    for path, configs, file, shapes in zip(made, config, files, (base, adapter), strict=True):
        path.mkdir(parents=True)
        for name, content in configs.items():
            (path / name).write_text(json.dumps(content))
        (path / file).write_bytes(_random_file(shapes))
    return made


def _random_file(shapes: Shapes) -> bytes:
    """Numbers between 1 and 2, or their halves: the exponent's bytes are fixed, the others random."""
    header = entries(shapes)
    size = max(entry["data_offsets"][1] for entry in header.values())
    data = bytearray(random.Random(size).randbytes(size))
    step = 2 if next(iter(shapes.values()))[0] == "BF16" else 4
    data[step - 1 :: step] = b"\x3f" * (size // step)
    return safetensors(header, bytes(data))
