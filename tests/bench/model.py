"""Models for measuring, with random weights and a LoRA adapter, kept in the user's cache.

`python -m tests.bench.model SIZE` makes one if need be, and prints its folder.
"""

import json
import os
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.bench.shapes import SIZES, Size
from tests.cache import cache

RANK = 16
ALPHA = 32
SEED = 5
LARGEST_FILE_BYTES = 5_000_000_000


def made(name: str) -> Path:
    """A folder with the base and its adapter."""
    folder = cache("bench", f"{name}-{RANK}-{SEED}")
    if not folder.exists():
        aside = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
        _make(SIZES[name], aside)
        aside.rename(folder)
    return folder


def _make(size: Size, folder: Path) -> None:
    torch.manual_seed(SEED)
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True)
    adapter.mkdir()
    _save(base, size.tensors())
    (base / "config.json").write_text(json.dumps(_config(size), indent=2))
    factors: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in size.modules().items():
        factors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(RANK, columns) * columns**-0.5
        factors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(rows, RANK) * 0.02
    save_file(factors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = sorted({name.rpartition(".")[2] for name in size.modules()})
    lora: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA}
    (adapter / "adapter_config.json").write_text(json.dumps(lora | {"target_modules": targets, "bias": "none"}))


def _save(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """As transformers saves it: one file, or files of at most LARGEST_FILE_BYTES and their index."""
    files: list[dict[str, torch.Tensor]] = [{}]
    filled = total = 0
    weight_map: dict[str, int] = {}
    for name, shape in shapes.items():
        tensor = torch.ones(shape, dtype=torch.bfloat16)
        if len(shape) > 1:
            tensor.normal_(0, 0.02)
        if filled and filled + tensor.nbytes > LARGEST_FILE_BYTES:
            files.append({})
            filled = 0
        files[-1][name] = tensor
        weight_map[name] = len(files)
        filled += tensor.nbytes
        total += tensor.nbytes
    if len(files) == 1:
        save_file(files[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    for number, tensors in enumerate(files, 1):
        save_file(tensors, folder / _shard(number, len(files)), metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: _shard(number, len(files)) for name, number in weight_map.items()},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    os.sync()


def _shard(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def _config(size: Size) -> dict[str, Any]:
    found = asdict(size)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": found["hidden"],
        "intermediate_size": found["intermediate"],
        "num_hidden_layers": found["layers"],
        "num_attention_heads": found["heads"],
        "num_key_value_heads": found["key_value_heads"],
        "vocab_size": found["vocabulary"],
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


if __name__ == "__main__":
    print(made(sys.argv[1]))
