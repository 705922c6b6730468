"""Counts what llama-server keeps for its requests: it allocates the whole cache when it starts.

For each of `slots` and each layer, in fp16, of so many cells:

    full               context, padded to a multiple of CELLS
    sliding, chunked   min(context, window + UBATCH_TOKENS), padded likewise, in the families of WINDOWED
    latent (MLA)       a cell holds kv_lora_rank + qk_rope_head_dim numbers, in the families of LATENT
    state              no cells, but the state itself, in fp32

Other cells hold 2 · kv_heads · head_size numbers. Families whose window or latent llama.cpp does not know (Mistral's
window among them) keep all tokens, with keys and values of every head.
Source: src/llama-kv-cache-iswa.cpp, src/llama-kv-cache.cpp, src/llama-hparams.cpp and conversion/ of llama.cpp, in the
release that requirements/llama-cpp.txt pins.

Example: gemma-3-1b, 4 slots of 8192 tokens: 22 layers of 1024 + 4 of 8192 cells, 1 KiB each: 0.21 GiB, not 0.81.
"""

from ftm_operator.planning.memory.kv_cache import layer_token_bytes
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.layer_attention import LayerAttention

CELLS = 256
UBATCH_TOKENS = 512
"""Tokens that are computed at once: llama-server's default."""
CACHE_DTYPE = "float16"
STATE_BYTES = 4
WINDOWED = {
    "cohere2",
    "exaone4",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt_oss",
    "llama4",
    "llama4_text",
    "olmo3",
}
"""Families whose window llama.cpp keeps to. Source: swa_type in src/models."""
LATENT = {"deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_k2"}
"""Families whose latent llama.cpp keeps. Source: add_kv_lora_rank in conversion/deepseek.py and glm.py."""


def cache_bytes(model: Architecture, slots: int, context: int) -> int:
    """Returns the bytes of the caches of all slots, each of `context` tokens."""
    return slots * sum(_layer_bytes(model, attention, context) for attention in model.attention)


def _layer_bytes(model: Architecture, attention: LayerAttention, context: int) -> int:
    """Returns the bytes of one layer for one slot."""
    if attention.kind == "state" and model.state:
        return (model.state.convolution + model.state.recurrent) * STATE_BYTES
    is_windowed = attention.window and model.model_type in WINDOWED
    tokens = min(context, attention.window + UBATCH_TOKENS) if is_windowed else context
    cells = -(-tokens // CELLS) * CELLS
    return cells * layer_token_bytes(
        model, 1, CACHE_DTYPE, attention=attention, keeps_latent=model.model_type in LATENT
    )
