"""The part of config.json that planning reads, as facts carry it."""

import json
import re
from collections.abc import Mapping
from typing import Any

TEXT_OBJECTS = ("text_config", "llm_config", "language_config")
"""Objects in a config.json that describe the language model, where it is not alone."""


CONFIG_OBJECTS = (*TEXT_OBJECTS, "vision_config", "quantization_config")
"""Objects in a config.json that describe a part of the architecture."""


_CONFIG_FIELDS = frozenset(
    re.findall(
        r"\w+",
        """
    model_type dtype torch_dtype tie_word_embeddings
    num_hidden_layers n_layer n_layers num_layers depth
    hidden_size n_embd d_model embed_dim
    intermediate_size n_inner ffn_dim ffn_hidden_size mlp_ratio intermediate_size_mlp
    num_attention_heads n_head n_heads num_heads head_dim
    num_key_value_heads n_head_kv num_kv_heads multi_query_group_num multi_query new_decoder_architecture
    vocab_size padded_vocab_size
    max_position_embeddings n_positions max_seq_len seq_length
    attention_bias qkv_bias add_qkv_bias mlp_bias bias use_qk_norm
    layer_types sliding_window sliding_window_pattern use_sliding_window max_window_layers
    attention_chunk_size no_rope_layers interleave_moe_layer_step moe_layers
    num_experts num_local_experts n_routed_experts moe_num_experts num_experts_per_tok moe_intermediate_size
    n_shared_experts shared_expert_intermediate_size shared_intermediate_size first_k_dense_replace moe_layer_freq
    decoder_sparse_step mlp_only_layers
    q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim num_nextn_predict_layers
    full_attention_interval linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim
    linear_conv_kernel_dim attn_layer_period attn_layer_offset attn_layer_indices hybrid_override_pattern
    expert_layer_period expert_layer_offset
    mamba_d_state mamba_d_conv mamba_expand mamba_n_heads mamba_d_head mamba_n_groups
    ssm_state_size conv_kernel mamba_num_heads mamba_head_dim n_groups
    patch_size temporal_patch_size in_channels in_chans num_channels image_size out_hidden_size spatial_merge_size
    quant_method bits w_bit group_size q_group_size zero_point sym weight_block_size format
    num_bits strategy symmetric type
    """,
    )
)


_LONGEST_CONFIG_LIST = 512


_DEEPEST_CONFIG = 4


def architecture_config(config: Mapping[str, Any]) -> dict[str, str]:
    """What planning reads of a config.json, small enough for a termination message: JSON by dotted name.

    Numbers, words, truth values and lists of them; what is null is left out.
    """
    found = dict(_config_fields(config, ()))
    for name in CONFIG_OBJECTS:
        if isinstance(config.get(name), Mapping):
            found |= _config_fields(config[name], (name,))
    return found


def _config_fields(config: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in config.items():
        if name in _CONFIG_FIELDS and _is_plain(value):
            found[".".join((*path, name))] = json.dumps(value, separators=(",", ":"))
        elif path[:1] == ("quantization_config",) and isinstance(value, Mapping) and len(path) < _DEEPEST_CONFIG:
            found |= _config_fields(value, (*path, name))
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _LONGEST_CONFIG_LIST and all(isinstance(item, bool | int | float | str) for item in value)
    return isinstance(value, bool | int | float | str)
