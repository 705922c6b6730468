"""Tells how each layer of a model attends, and so what it keeps of a sequence:

    full      all tokens
    sliding   the last `window` tokens (Mistral, Gemma, GPT-OSS)
    chunked   the tokens of the current chunk of `window` (Llama 4)
    state     a state of constant size (Mamba, gated delta nets)

In some families layers of one kind have heads of their own (Gemma 4's full attention).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftm_jobs.contract.config_fields import first_number

AttentionKind = Literal["full", "sliding", "chunked", "state"]

LAYER_TYPES: Mapping[str, AttentionKind] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "state",
    "mamba": "state",
    "mamba2": "state",
    "conv": "state",
}
"""config.json's layer_types. A type that is not listed is taken as full attention, which needs most."""
BLOCK_TYPES: Mapping[str, tuple[AttentionKind, ...]] = {"moe": (), "mlp": (), "hybrid": ("full", "state")}
"""config.json's layers_block_type, where it is not as LAYER_TYPES: an MLP is a block of its own, or has two mixers."""

GEMMA_4 = {"gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"}
"""Families whose layers with full attention have heads of their own, and whose experts stand beside an MLP."""
GLOBAL_HEAD_SIZE = 512
"""The size where config.json says none. Source: transformers, configuration_gemma4.py."""


@dataclass(frozen=True)
class LayerAttention:
    kind: AttentionKind
    window: int = 0
    """The length in tokens; 0 for full and state."""
    key_value_heads: int = 0
    """Its own number of them; 0: the model's."""
    head_size: int = 0
    """Its own; 0: the model's."""


FULL = LayerAttention("full")


def attention_of(text: Mapping[str, Any], model_type: str, layers: int) -> tuple[LayerAttention, ...]:
    """Returns each layer's attention. Source: vLLM's classes of models, and transformers' defaults for layer_types."""
    window = first_number(text, "sliding_window") or 0
    chunk = first_number(text, "attention_chunk_size") or 0
    windows = {"full": 0, "state": 0, "sliding": window, "chunked": chunk}
    kinds = [
        kind if windows[kind] or kind in ("full", "state") else "full" for kind in _kinds(text, model_type, layers)
    ]
    own = _own_heads(text) if model_type in GEMMA_4 else (0, 0)
    return tuple(LayerAttention(kind, windows[kind], *(own if kind == "full" else ())) for kind in kinds)


def _own_heads(text: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the key-value heads and the head size of layers with full attention; 0: as the others'."""
    heads = first_number(text, "num_global_key_value_heads") if text.get("attention_k_eq_v") else None
    return heads or 0, first_number(text, "global_head_dim") or GLOBAL_HEAD_SIZE


def _kinds(text: Mapping[str, Any], model_type: str, layers: int) -> list[AttentionKind]:
    named = text.get("layer_types")
    if isinstance(named, list) and named:
        return [LAYER_TYPES.get(str(kind), "full") for kind in (named * layers)[:layers]]
    return _kinds_of_hybrid(text, model_type, layers) or _kinds_of_family(text, model_type, layers)


def _kinds_of_hybrid(text: Mapping[str, Any], model_type: str, layers: int) -> list[AttentionKind] | None:
    every = range(layers)
    if isinstance(blocks := text.get("layers_block_type"), list):
        return [
            kind for block in map(str, blocks) for kind in BLOCK_TYPES.get(block, (LAYER_TYPES.get(block, "full"),))
        ]
    if pattern := text.get("hybrid_override_pattern"):
        return ["full" if sign == "*" else "state" for sign in str(pattern) if sign in "*M"]
    if period := first_number(text, "attn_layer_period"):
        offset = int(text.get("attn_layer_offset", 0))
        return ["full" if layer % period == offset else "state" for layer in every]
    if isinstance(indices := text.get("attn_layer_indices"), list):
        return ["full" if layer in indices else "state" for layer in every]
    if isinstance(indices := text.get("full_attn_idxs"), list):  # LFM2
        return ["full" if layer in indices else "state" for layer in every]
    if isinstance(listed := linear_attention(text).get("full_attn_layers"), list):  # counted from 1
        return ["full" if layer + 1 in listed else "state" for layer in every]
    if "linear_num_value_heads" in text:
        interval = first_number(text, "full_attention_interval") or 4
        return ["state" if (layer + 1) % interval else "full" for layer in every]
    if model_type == "falcon_h1":  # each layer has both
        return ["full" if layer < layers else "state" for layer in range(2 * layers)]
    return None


def _kinds_of_family(text: Mapping[str, Any], model_type: str, layers: int) -> list[AttentionKind]:
    every = range(layers)
    if model_type.startswith("llama4"):
        rope = text.get("no_rope_layers") or [(layer + 1) % 4 != 0 for layer in every]
        return ["chunked" if uses_rope else "full" for uses_rope in rope[:layers]]
    if model_type in GEMMA_4:
        return ["sliding" if (layer + 1) % 6 and layer + 1 < layers else "full" for layer in every]
    if model_type.startswith("gemma3") or model_type == "cohere2":
        length = first_number(text, "sliding_window_pattern") or (4 if model_type == "cohere2" else 6)
        return ["sliding" if (layer + 1) % length else "full" for layer in every]
    if model_type in ("gemma2", "gpt_oss"):
        return ["full" if layer % 2 else "sliding" for layer in every]
    if "use_sliding_window" in text or model_type.startswith(("qwen2", "qwen3")):
        first = int(text.get("max_window_layers", layers)) if text.get("use_sliding_window") else layers
        return ["sliding" if layer >= first else "full" for layer in every]
    return ["sliding"] * layers


def linear_attention(text: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of linear_attn_config (Kimi Linear)."""
    return inner_object(text, "linear_attn_config")


def inner_object(text: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the fields of an object inside the language model's, one of its own or as facts carry it."""
    prefix = f"{name}."
    inner = text.get(name)
    carried = {name.removeprefix(prefix): value for name, value in text.items() if name.startswith(prefix)}
    return {**inner, **carried} if isinstance(inner, Mapping) else carried
