"""Small random models of families that differ in what may be scaled, as transformers saves them."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "vocab_size": 49152,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_TOWER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 120,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
_QWEN_TOKENS = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}
_ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}

_PLAIN = (
    *("cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "granite", "helium"),
    *("hunyuan_v1_dense", "llama", "ministral", "ministral3", "mistral", "nemotron", "olmo", "olmo2", "olmo3", "phi3"),
    *("qwen2", "qwen3", "seed_oss", "smollm3", "stablelm"),
)

FAMILIES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(_PLAIN, _TEXT),
    "mixtral": _TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe": _TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": _TEXT | {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": _TEXT | _EXPERTS | {"shared_expert_intermediate_size": 256, "decoder_sparse_step": 1},
    "qwen3_moe": _TEXT | _EXPERTS | {"decoder_sparse_step": 1},
    "gemma3": {
        "text_config": _TEXT | {"model_type": "gemma3_text"},
        "vision_config": _TOWER,
        "mm_tokens_per_image": 4,
        "image_token_index": 3,
        "boi_token_index": 4,
        "eoi_token_index": 5,
    },
    "qwen2_5_vl": {
        "text_config": {**_TEXT, "rope_parameters": _ROPE},
        "vision_config": {"hidden_size": 64, "intermediate_size": 120, "depth": 2, "num_heads": 4}
        | {"out_hidden_size": 128},
        **_QWEN_TOKENS,
    },
    "qwen2_vl": {
        "text_config": {**_TEXT, "rope_parameters": _ROPE},
        "vision_config": {"embed_dim": 64, "hidden_size": 128, "mlp_ratio": 2, "depth": 2, "num_heads": 4},
        **_QWEN_TOKENS,
    },
    "qwen3_vl": {
        "text_config": {**_TEXT, "rope_parameters": _ROPE},
        "vision_config": {"hidden_size": 64, "intermediate_size": 120, "depth": 2, "num_heads": 4}
        | {"out_hidden_size": 128, "deepstack_visual_indexes": [0]},
        **_QWEN_TOKENS,
    },
    "llava": {
        "text_config": _TEXT | {"model_type": "llama"},
        "vision_config": _TOWER | {"model_type": "clip_vision_model"},
        "image_token_index": 3,
    },
    "deepseek_v3": _TEXT
    | {"head_dim": None, "kv_lora_rank": 32, "q_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32}
    | {"v_head_dim": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    | {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "mistral3": {
        "text_config": _TEXT | {"model_type": "mistral"},
        "vision_config": _TOWER | {"model_type": "pixtral", "head_dim": 16},
        "image_token_index": 3,
    },
}


def make(family: str, folder: Path, tokenizer_of: Path, **text: Any) -> Path:
    """With norms that are not all one, and `text` for the language model's config."""
    torch.manual_seed(7)
    fields = FAMILIES[family]
    nested = "text_config" in fields
    if nested:
        config = AutoConfig.for_model(family, **{**fields, "text_config": {**fields["text_config"], **text}})
    else:
        given = {name: value for name, value in {**fields, **text}.items() if value is not None}
        config = AutoConfig.for_model(family, **given)
    auto: Any = AutoModelForImageTextToText if nested else AutoModelForCausalLM
    model = auto.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
            elif "norm" in name:
                parameter.uniform_(-0.5, 0.5) if "gemma" in family else parameter.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    for path in tokenizer_of.iterdir():
        if "token" in path.name or "chat" in path.name:
            shutil.copy(path, folder)
    return folder
