"""Models for measuring: the shapes of real ones, random weights and a LoRA adapter, kept in the user's cache."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.cache import cache

RANK = 16
ALPHA = 32
SEED = 5
LARGEST_FILE_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Size:
    """A Llama's shapes; `layers` may be fewer than the real model has."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int

    def modules(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each matrix that the adapter changes."""
        narrow = self.hidden // self.heads * self.key_value_heads
        shapes = {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        return {f"model.layers.{layer}.{name}": shape for layer in range(self.layers) for name, shape in shapes.items()}

    def tensors(self) -> dict[str, tuple[int, ...]]:
        embedding = (self.vocabulary, self.hidden)
        norms = [
            f"model.layers.{layer}.{norm}.weight"
            for layer in range(self.layers)
            for norm in ("input_layernorm", "post_attention_layernorm")
        ]
        return {
            "model.embed_tokens.weight": embedding,
            **{f"{name}.weight": shape for name, shape in self.modules().items()},
            **dict.fromkeys([*norms, "model.norm.weight"], (self.hidden,)),
            "lm_head.weight": embedding,
        }


SIZES = {
    "0.1": Size(768, 2048, 12, 12, 4, 8192),
    "1.1": Size(2048, 5632, 22, 32, 4, 32000),
    "8": Size(4096, 14336, 8, 32, 8, 128256),
    "70": Size(8192, 28672, 2, 64, 8, 128256),
}
"""By billions of parameters. 8 and 70 have those models' shapes in a subset of their layers."""


def made(name: str) -> tuple[Path, Path]:
    """Folders of the base and of its adapter."""
    folder = cache("bench", f"{name}-{RANK}-{SEED}")
    if not folder.exists():
        aside = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
        _make(SIZES[name], aside)
        aside.rename(folder)
    return folder / "base", folder / "adapter"


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
