"""Names of config.json's fields, and what the fields say that a config.json leaves out.

Families spell the same field in different ways; SPELLINGS has them all. A config.json of a model that reads images has
an object for its language model: its fields count before those beside it. What is left out has the default of the
family's class in transformers, which a table generated from those classes holds; what is null is not left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "layers": ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model"),
    "intermediate_size": ("block_ff_dim", "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "head_size": ("head_dim", "kv_channels"),
    "vocabulary_size": ("padded_vocab_size", "vocab_size"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    "dtype": ("dtype", "torch_dtype"),
    "tied_embeddings": ("tie_word_embeddings",),
}
"""config.json's names of each field, the first that is set counts. ChatGLM's embeddings have padded_vocab_size rows."""

TEXT_OBJECTS = ("text_config", "llm_config", "language_config")
"""Objects in a config.json that describe the language model, where it is not alone."""

CONFIG_OBJECTS = (*TEXT_OBJECTS, "vision_config", "quantization_config")
"""Objects in a config.json that describe a part of the architecture."""

INNER_OBJECTS = ("linear_attn_config", "rope_parameters", "rope_scaling")
"""Objects inside the description of a language model."""

_OTHER_FIELDS = """
model_type is_encoder_decoder depth embed_dim mlp_ratio intermediate_size_mlp num_heads
multi_query new_decoder_architecture
attention_bias qkv_bias add_qkv_bias mlp_bias bias use_qk_norm
layer_types sliding_window sliding_window_pattern use_sliding_window max_window_layers
attention_chunk_size no_rope_layers interleave_moe_layer_step moe_layers
num_experts num_local_experts n_routed_experts moe_num_experts num_experts_per_tok moe_intermediate_size
n_shared_experts shared_expert_intermediate_size shared_intermediate_size first_k_dense_replace moe_layer_freq
decoder_sparse_step mlp_only_layers
num_experts_per_token num_shared_experts num_shared_expert moe_num_shared_experts moe_layer_start_index moe_k moe_topk
index_topk index_head_dim index_n_heads index_topk_freq index_topk_pattern index_skip_topk_offset
q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim num_nextn_predict_layers
full_attention_interval linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim
linear_conv_kernel_dim full_attn_layers kda_layers short_conv_kernel_size
conv_L_cache full_attn_idxs block_auto_adjust_ff_dim block_multiple_of block_ffn_dim_multiplier
partial_rotary_factor rotary_pct rotary_emb_fraction rotary_dim mrope_section position_embedding_type
attn_layer_period attn_layer_offset attn_layer_indices hybrid_override_pattern layers_block_type
expert_layer_period expert_layer_offset
mamba_ssm_dtype mamba_ssm_cache_dtype mamba_d_state mamba_d_conv mamba_expand mamba_n_heads mamba_d_head mamba_n_groups
ssm_state_size conv_kernel mamba_num_heads mamba_head_dim n_groups
patch_size temporal_patch_size in_channels in_chans num_channels image_size out_hidden_size spatial_merge_size
deepstack_visual_indexes num_position_embeddings
global_head_dim num_global_key_value_heads attention_k_eq_v num_kv_shared_layers hidden_size_per_layer_input
vocab_size_per_layer_input use_double_wide_mlp enable_moe_block top_k_experts
quant_method bits w_bit group_size q_group_size zero_point sym weight_block_size format
num_bits strategy symmetric type
"""
"""Fields that planning reads beside SPELLINGS, of the decoder, of an encoder of images and of a quantization."""

CARRIED_FIELDS = frozenset((*_OTHER_FIELDS.split(), *(name for names in SPELLINGS.values() for name in names)))
"""Fields that planning reads."""

TABLE = "transformers_tables/config_defaults.json"


@dataclass(frozen=True)
class ConfigClass:
    """A family's class of config.json in transformers."""

    defaults: Mapping[str, Any]
    """The defaults of the fields that planning reads."""
    names: Mapping[str, str]
    """The class's own names of fields, by their usual names: d_kv by head_dim."""
    objects: Mapping[str, Mapping[str, Any]]
    """Contents of objects that say nothing, by their names: the model_type, and defaults that its class has not."""
    flat: bool
    """The language model's fields may stand beside its object, where that is not there."""

    @property
    def text_type(self) -> str | None:
        """The model_type of the language model, where the class has an object for it."""
        return next((self.objects[name]["model_type"] for name in TEXT_OBJECTS if name in self.objects), None)


def config_class(model_type: object) -> ConfigClass | None:
    """Returns the class of a family; None where transformers has none."""
    return _config_classes().get(model_type) if isinstance(model_type, str) else None


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config.json with the defaults of what it leaves out, as far as planning reads it.

    Whether embeddings are tied stays as it is said, since there the weights count too.
    """
    outer = config_class(config.get("model_type"))
    completed = dict(config)
    for name in CONFIG_OBJECTS:
        if isinstance(part := config.get(name), Mapping):
            empty = outer.objects.get(name, {}) if outer else {}
            model_type = part.get("model_type", empty.get("model_type"))
            own = empty if model_type == empty.get("model_type") else {}
            completed[name] = {**part, **_defaults_of(part, model_type, own)}
    if text_object(config) is None and not (outer and outer.text_type and not outer.flat):
        completed |= _defaults_of(config, text_type(config))
    return completed


def text_type(config: Mapping[str, Any]) -> object:
    """Returns the model_type of the language model, whether config.json has an object for it or not."""
    outer, inner = config_class(config.get("model_type")), config.get(text_object(config) or "")
    default_type = outer.text_type if outer else None
    if isinstance(inner, Mapping):
        return inner.get("model_type", default_type)
    return default_type or config.get("model_type")


def spellings(fact: str, model_type: object) -> tuple[str, ...]:
    """Returns the names that a fact may have in a family's config.json, those of its class included."""
    found = config_class(model_type)
    own = found.names if found else {}
    return tuple(dict.fromkeys(name for usual in SPELLINGS[fact] for name in (usual, own.get(usual, usual))))


def text_object(config: Mapping[str, Any]) -> str | None:
    """Returns the name of the object that describes the language model; None: config.json itself does."""
    return next((name for name in TEXT_OBJECTS if config.get(name)), None)


def text_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the decoder that are set, whether config.json has an object for it or not."""
    inner = config.get(text_object(config) or "")
    fields = {name: value for name, value in config.items() if name not in CONFIG_OBJECTS}
    if isinstance(inner, Mapping):
        fields |= {name: value for name, value in inner.items() if value is not None}
    return {name: value for name, value in fields.items() if value is not None}


def first_number(fields: Mapping[str, Any], *names: str) -> int | None:
    """Returns the first of the names that holds a positive whole number, or the largest of a list of such numbers."""
    for name in names:
        value = largest(fields.get(name))
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def largest(value: object) -> object:
    """Returns the largest of a list of whole numbers, as of widths that differ by layer; anything else as it is."""
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return max(value)
    return value


def _defaults_of(
    fields: Mapping[str, Any], model_type: object, more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns the defaults of what `fields` leave out under all of its names; those of `more` before the class's."""
    found = config_class(model_type)
    if found is None:
        return {}
    said = set(fields)
    for fact in SPELLINGS:
        names = spellings(fact, model_type)
        said.update(names if said.intersection(names) else ())
    said.update(own for usual, own in found.names.items() if usual in fields)
    return {
        name: value
        for name, value in (*found.defaults.items(), *more.items())
        if name not in said and name not in SPELLINGS["tied_embeddings"]
    }


@cache
def _config_classes() -> Mapping[str, ConfigClass]:
    table = json.loads(files("ftm_jobs").joinpath(TABLE).read_text("utf-8"))
    return {
        model_type: ConfigClass(row.get("defaults", {}), row.get("names", {}), row.get("objects", {}), "flat" in row)
        for model_type, row in table.items()
    }
