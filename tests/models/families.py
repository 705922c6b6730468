"""Tiny models of many families, adapters of them by PEFT, and what PEFT makes of both."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 32,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_VISION: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "projection_dim": 16,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False, "attention_bias": True},
    "llama tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": False},
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False},
    "gemma": {"model_type": "gemma2", "tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 64},
    "phi3": {"model_type": "phi3", "tie_word_embeddings": False},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "tie_word_embeddings": False},
    "qwen2 moe": {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 24, "tie_word_embeddings": False}
    | _EXPERTS,
    "qwen3 moe": {"model_type": "qwen3_moe", "tie_word_embeddings": False} | _EXPERTS,
    "gpt-oss": {"model_type": "gpt_oss", "num_local_experts": 4, "tie_word_embeddings": False},
    "wide llama": {"model_type": "llama", "tie_word_embeddings": False, "hidden_size": 64, "intermediate_size": 128}
    | {"head_dim": 16},
    "large llama": {"model_type": "llama", "tie_word_embeddings": False, "num_hidden_layers": 1, "vocab_size": 500}
    | {"hidden_size": 1024, "intermediate_size": 2816, "head_dim": 64},
    "large gpt2": {
        "model_type": "gpt2",
        "n_embd": 1024,
        "n_layer": 1,
        "n_head": 4,
        "n_positions": 32,
        "vocab_size": 500,
    },
    "granite moe": {"model_type": "granitemoe", "num_local_experts": 4, "tie_word_embeddings": False},
    "phimoe": {"model_type": "phimoe", "num_local_experts": 4, "tie_word_embeddings": False},
    "gpt-neox": {"model_type": "gpt_neox", "tie_word_embeddings": False},
    "nemotron-h": {
        "model_type": "nemotron_h",
        "layers_block_type": ["linear_attention", "full_attention", "moe"],
        "num_hidden_layers": 3,
        "n_routed_experts": 4,
        "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 24,
        "num_experts_per_tok": 2,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "tie_word_embeddings": False,
    },
    "gemma3": {
        "model_type": "gemma3",
        "text_config": _SIZES | {"model_type": "gemma3_text"},
        "vision_config": _VISION | {"model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 1,
    },
    "llava": {
        "model_type": "llava",
        "text_config": _SIZES | {"model_type": "llama", "tie_word_embeddings": False},
        "vision_config": _VISION,
        "image_token_index": 3,
        "tie_word_embeddings": False,
    },
    "llama vision": {
        "model_type": "mllama",
        "text_config": _SIZES
        | {"model_type": "mllama_text_model", "tie_word_embeddings": False, "cross_attention_layers": [1]}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_global_layers": 1}
        | {"attention_heads": 2, "image_size": 16, "patch_size": 8, "vision_output_dim": 32, "max_num_tiles": 1}
        | {"intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]]},
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True)
class Adapter:
    """An adapter to train, and how it is stored."""

    lora: Mapping[str, Any]
    vocabulary: int | None = None
    """The base's vocabulary is resized to this before."""
    dtype: torch.dtype = torch.float32
    save: Mapping[str, Any] = field(default_factory=dict)


def _auto(family: str) -> Any:
    return AutoModelForImageTextToText if "vision_config" in FAMILIES[family] else AutoModelForCausalLM


def make_family(folder: Path, family: str, dtype: torch.dtype, shard: str = "50GB") -> Path:
    torch.manual_seed(1)
    found = FAMILIES[family]
    content = found if "n_embd" in found or "vision_config" in found else _SIZES | found
    config = AutoConfig.for_model(**content)
    model = _auto(family).from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def _load(family: str, base: Path, dtype: torch.dtype, vocabulary: int | None) -> Any:
    model = _auto(family).from_pretrained(base, dtype=dtype)
    if vocabulary:
        torch.manual_seed(2)
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    return model


def make_adapter(folder: Path, family: str, base: Path, dtype: torch.dtype, adapter: Adapter, seed: int = 10) -> Path:
    """An adapter whose every trained number is random, as PEFT saves it."""
    model = get_peft_model(
        _load(family, base, dtype, adapter.vocabulary), LoraConfig(**{"r": 4, "lora_alpha": 10, **adapter.lora})
    )
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.uniform_(parameter, 0.1, 0.9) if "magnitude" in name else torch.nn.init.normal_(
                parameter, std=0.1
            )
    if adapter.dtype is not torch.float32:
        model.to(adapter.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(folder), **adapter.save)
    return folder


def merged_by_peft(
    family: str, base: Path, dtype: torch.dtype, adapters: list[Path], scales: list[float], vocabulary: int | None
) -> Any:
    """The model. All adapters are active, without which PEFT would drop the modules that any but the first saved."""
    names = [f"adapter{number}" for number in range(len(adapters))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = PeftModel.from_pretrained(
            _load(family, base, dtype, vocabulary), adapters[0], adapter_name=names[0]
        )
        for name, folder in zip(names[1:], adapters[1:], strict=True):
            model.load_adapter(folder, adapter_name=name)
        for name, scale in zip(names, scales, strict=True):
            for layer in model.modules():
                if hasattr(layer, "set_scale"):
                    layer.set_scale(name, scale)
        model.base_model.set_adapter(names)
        return model.merge_and_unload(adapter_names=names)


def load(family: str, folder: Path) -> Any:
    """A model as transformers reads it, in the dtype it is stored in."""
    return _auto(family).from_pretrained(folder, dtype="auto")
