"""Small builders of safetensors files, configs and adapters, byte by byte, without the safetensors library."""

import json
from math import prod
from typing import Any

from ftm_jobs.checkpoint.headers import DTYPE_BITS, SIZE_BYTES, Header, parse_header

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""dtype and shape by tensor name."""


def entries(shapes: Shapes) -> dict[str, Any]:
    """Returns a header's entries for these tensors, lying in the given order."""
    found: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in shapes.items():
        size = prod(shape) * DTYPE_BITS[dtype] // 8
        found[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return found


def safetensors(header: Any, data: bytes) -> bytes:
    """A file of any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(SIZE_BYTES, "little") + text + data


def zeros(shapes: Shapes) -> bytes:
    """A right file whose tensors are all zero."""
    found = entries(shapes)
    return safetensors(found, bytes(max((entry["data_offsets"][1] for entry in found.values()), default=0)))


def filled(shapes: Shapes) -> bytes:
    """A right file whose numbers are all the same, and not zero."""
    found = entries(shapes)
    return safetensors(found, b"\x3c" * max((entry["data_offsets"][1] for entry in found.values()), default=0))


def header(shapes: Shapes, file: str = "model.safetensors") -> Header:
    content = zeros(shapes)
    size = int.from_bytes(content[:SIZE_BYTES], "little")
    return parse_header(file, content[SIZE_BYTES : SIZE_BYTES + size], len(content))


LLAMA_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
ADAPTER_CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "bias": "none",
}
Q_PROJ = "model.layers.0.self_attn.q_proj"
BASE_SHAPES: Shapes = {
    "model.embed_tokens.weight": ("BF16", (32, 8)),
    f"{Q_PROJ}.weight": ("BF16", (8, 8)),
    "model.layers.0.self_attn.k_proj.weight": ("BF16", (4, 8)),
    "lm_head.weight": ("BF16", (32, 8)),
}
ADAPTER_SHAPES: Shapes = {
    f"base_model.model.{Q_PROJ}.lora_A.weight": ("F32", (2, 8)),
    f"base_model.model.{Q_PROJ}.lora_B.weight": ("F32", (8, 2)),
}
