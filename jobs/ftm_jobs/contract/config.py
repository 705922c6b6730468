"""Reads config.json, for the Jobs and for planning alike: one class of what it says, and the fields that facts carry.

Families spell the same field in different ways; SPELLINGS has them all. A config.json of a model that reads images has
an object for its language model: its fields count before those beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
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

_OTHER_FIELDS = """
model_type depth embed_dim mlp_ratio intermediate_size_mlp num_heads multi_query new_decoder_architecture
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
"""
"""Fields that planning reads beside SPELLINGS, of the decoder, of an encoder of images and of a quantization."""

_CARRIED_FIELDS = frozenset((*_OTHER_FIELDS.split(), *(name for names in SPELLINGS.values() for name in names)))
_LONGEST_LIST = 512
_DEEPEST_OBJECT = 4
_LARGEST_NUMBER = 2**40


class UnreadableConfig(Exception):
    """A config.json that does not say enough.

    The text follows the file's name, as in `config.json has no hidden_size: copy it from the model's page`.
    """


@dataclass(frozen=True)
class ModelConfig:
    """The plain facts of a decoder that config.json holds."""

    architecture: str
    """The class that config.json names: LlamaForCausalLM."""
    model_type: str
    """The family that config.json names: llama."""
    layers: int
    hidden_size: int
    intermediate_size: int | None
    attention_heads: int
    key_value_heads: int
    head_size: int
    vocabulary_size: int
    """Rows of the embedding."""
    max_position_embeddings: int
    """In tokens; 0 when config.json does not say."""
    tied_embeddings: bool | None
    """None when config.json does not say."""
    dtype: str | None
    """torch's name of it, as in bfloat16; None when config.json does not say."""
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All of config.json."""


def read_config(config: Mapping[str, Any]) -> ModelConfig:
    """Reads a parsed config.json. Raises UnreadableConfig, naming the field that is missing or wrong."""
    inner = text_object(config)
    if inner is not None and not isinstance(config[inner], Mapping):
        raise UnreadableConfig(f"has a {inner} that is not an object")
    text = text_fields(config)
    architectures, model_type = config.get("architectures"), config.get("model_type")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(architecture, str) or not isinstance(model_type, str):
        raise UnreadableConfig("names no architectures or no model_type: copy them from the model's page")
    hidden_size, heads = _required(text, "hidden_size"), _required(text, "attention_heads")
    (tied_name,) = SPELLINGS["tied_embeddings"]
    tied = text.get(tied_name) if config.get(tied_name) is None else config[tied_name]
    dtype = next((text[name] for name in SPELLINGS["dtype"] if isinstance(text.get(name), str)), None)
    return ModelConfig(
        architecture=architecture,
        model_type=model_type,
        layers=_required(text, "layers"),
        hidden_size=hidden_size,
        intermediate_size=_optional(text, "intermediate_size"),
        attention_heads=heads,
        key_value_heads=_optional(text, "key_value_heads") or (1 if _is_multi_query(text) else heads),
        head_size=_optional(text, "head_size") or hidden_size // heads,
        vocabulary_size=_required(text, "vocabulary_size"),
        max_position_embeddings=_optional(text, "max_position_embeddings") or 0,
        tied_embeddings=tied if isinstance(tied, bool) else None,
        dtype=dtype.removeprefix("torch.") if dtype else None,
        content=config,
    )


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
    """Returns the first of the names that holds a positive whole number, or a list that begins with one."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def architecture_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the fields that planning reads, small enough for a termination message: JSON by dotted name.

    Numbers, words, truth values and lists of them; what is null is left out.
    """
    fields = dict(_carried(config, ()))
    for name in CONFIG_OBJECTS:
        if isinstance(config.get(name), Mapping):
            fields |= _carried(config[name], (name,))
    return fields


def carried_config(fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the config.json that `architecture_config` made `fields` of, as far as they carry it.

    Objects inside an object keep their dotted names, as in config_groups.group_0.weights.num_bits.
    """
    config: dict[str, Any] = {}
    for dotted, text in fields.items():
        first, _, rest = dotted.partition(".")
        if rest:
            config.setdefault(first, {})[rest] = json.loads(text)
        else:
            config[first] = json.loads(text)
    return config


def _is_multi_query(text: Mapping[str, Any]) -> bool:
    """Says whether all query heads share one key-value head (Falcon-7B), which config.json says in its own way."""
    return text.get("multi_query") is True and not text.get("new_decoder_architecture")


def _optional(text: Mapping[str, Any], fact: str) -> int | None:
    for name in SPELLINGS[fact]:
        value = text.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST_NUMBER:
            raise UnreadableConfig(
                f"says that {name} is {str(value)[:100]!r}, not a positive number: copy it from the model's page"
            )
        return value
    return None


def _required(text: Mapping[str, Any], fact: str) -> int:
    value = _optional(text, fact)
    if value is None:
        usual = "vocab_size" if fact == "vocabulary_size" else SPELLINGS[fact][0]
        raise UnreadableConfig(f"has no {usual}: copy it from the model's page")
    return value


def _carried(config: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in config.items():
        if name in _CARRIED_FIELDS and _is_plain(value):
            fields[".".join((*path, name))] = json.dumps(value, separators=(",", ":"))
        elif path[:1] == ("quantization_config",) and isinstance(value, Mapping) and len(path) < _DEEPEST_OBJECT:
            fields |= _carried(value, (*path, name))
    return fields


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _LONGEST_LIST and all(isinstance(item, bool | int | float | str) for item in value)
    return isinstance(value, bool | int | float | str)
