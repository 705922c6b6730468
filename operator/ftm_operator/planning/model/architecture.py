"""Describes a model as far as memory and parallelism ask, read from its facts and from nothing else.

`BaseFacts.config` holds config.json's own fields; where an older inspection left them out, the plain facts are enough
for a decoder whose layers are all alike.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ftm_jobs.contract.config import UnreadableConfig, carried_config, lacks
from ftm_jobs.contract.config_fields import SPELLINGS, first_number, text_fields
from ftm_jobs.contract.facts import BaseFacts, TensorGroup, of_encoder
from ftm_operator.planning.model.layer_attention import GEMMA_4, LayerAttention, attention_of, linear_attention
from ftm_operator.planning.model.quantization import NONE, Scheme, scheme_of_config
from ftm_operator.planning.model.rotary import WHOLE_HEADS, Rotary, rotary_of
from ftm_operator.planning.model.tensor_names import loaded

DEFAULT_MAX_CONTEXT = 2048
"""The limit that vLLM takes where a config names none. Source: config/model.py, _get_and_verify_max_len."""
LATENT_MODEL_TYPES = {
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "kimi_k2",
    "kimi_linear",
    "longcat_flash",
    "pangu_ultra_moe",
}
"""Types whose latent vLLM keeps, not keys and values. Source: model_arch_config_convertor.py, is_deepseek_mla."""

SAYS_STATE_DTYPE: Mapping[str, str] = {
    "nemotron_h": "mamba_ssm_cache_dtype",
    "qwen3_5_moe_text": "mamba_ssm_dtype",
    "qwen3_5_text": "mamba_ssm_dtype",
}
"""Families whose config.json says the dtype of recurrent states, by its field. Source: models/config.py of vLLM."""
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
"""config.json's names for the number of experts that every token uses."""
FLOAT32_STATES = {"kimi_linear", "nemotron_h"}
"""Families that keep recurrent states in float32 where nothing else is said; others keep them in the model's dtype."""


@dataclass(frozen=True)
class Experts:
    """The mixture of experts of a layer."""

    count: int
    width: int
    """The width inside one expert."""
    per_token: int
    shared_width: int
    """The width inside the experts that every token uses, together; 0: there are none."""
    layers: tuple[int, ...]
    """The layers that have them; the others have a plain MLP."""
    whole: bool = False
    """Each rank holds whole experts (--enable-expert-parallel), not a part of each."""


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (MLA)."""

    key_value_rank: int
    rope_width: int
    nope_width: int
    value_width: int
    query_rank: int | None


@dataclass(frozen=True)
class State:
    """The numbers that a layer of kind `state` keeps of a sequence, before it is split over ranks."""

    convolution: int
    recurrent: int
    heads: int
    """The heads, which are split over ranks."""
    recurrent_dtype: str | None = None
    """The dtype of `recurrent` that config.json or the family's class says; None: the dtype of serving."""
    groups: int = 0
    """The groups of heads that share inputs (Mamba 2), each on every rank that has a head of it; 0: none."""
    group_width: int = 0
    """The numbers of `convolution` that belong to one group, for each position."""
    kernel: int = 4
    """Positions that a convolution spans."""
    checkpoints: int = 0
    """Blocks more that prefix caching takes: prefill leaves the state of a boundary inside a batch (Mamba 2, KDA)."""

    def rank_groups(self, ranks: int) -> int:
        """Returns the groups that each rank has."""
        return self.groups // ranks if self.groups % ranks == 0 else 1

    def rank_convolution(self, ranks: int) -> int:
        """Returns the numbers of `convolution` that each rank has."""
        one_group = self.group_width * (self.kernel - 1)
        own = self.convolution - self.groups * one_group
        return -(-own // ranks) + self.rank_groups(ranks) * one_group


@dataclass(frozen=True)
class Indexer:
    """A sparse attention's index: one vector of each token, for the layers that choose the tokens to attend to."""

    heads: int
    head_size: int
    layers: int
    chosen: int
    """Tokens that are attended to."""


@dataclass(frozen=True)
class Vision:
    """The tower that reads images."""

    heads: int
    hidden_size: int
    deepstack: int = 0
    """Its layers whose features go to the decoder's first layers too."""


@dataclass(frozen=True)
class Architecture:
    model_type: str
    dtype: str
    """safetensors' name of the stored dtype."""
    layers: int
    hidden_size: int
    mlp_width: int | None
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    max_context: int
    """The length in tokens."""
    tied: bool
    attention: tuple[LayerAttention, ...]
    """The attention of each layer, in order."""
    sharing_layers: int
    """The last layers, which read keys and values of layers before them and keep none."""
    keys_are_values: bool
    """Layers with heads of their own have no weights for values; engines keep those of the keys twice."""
    weight_bytes: int
    """Bytes as stored."""
    tensors: tuple[TensorGroup, ...]
    """The groups that the facts have; empty where they have none."""
    quantization: Scheme = NONE
    """The scheme of a base that is stored quantized, as config.json says."""
    experts: Experts | None = None
    latent: Latent | None = None
    indexer: Indexer | None = None
    state: State | None = None
    vision: Vision | None = None
    rotary: Rotary = WHOLE_HEADS

    @property
    def deepstack(self) -> int:
        """Returns the layers of the decoder that take features of an encoder's layers."""
        return self.vision.deepstack if self.vision else 0

    @cached_property
    def has_encoder(self) -> bool:
        """Returns whether images or sounds are encoded beside the decoder."""
        return self.vision is not None or any(of_encoder(each.name) for each in self.tensors)

    @cached_property
    def keeping(self) -> tuple[LayerAttention, ...]:
        """Returns the attention of the layers that keep something of a sequence."""
        return self.attention[: len(self.attention) - self.sharing_layers]

    @cached_property
    def kept(self) -> tuple[tuple[LayerAttention, int], ...]:
        """Returns each way in which these layers attend, with the number of those that do."""
        return tuple(Counter(self.keeping).items())

    @cached_property
    def heads_of_layers(self) -> frozenset[tuple[int, int]]:
        """Returns the key-value heads and head sizes that layers have."""
        return frozenset(self.heads_of(each) for each in set(self.attention) if each.kind != "state")

    def heads_of(self, attention: LayerAttention) -> tuple[int, int]:
        """Returns the key-value heads of a layer that attends so, and their size."""
        return attention.key_value_heads or self.key_value_heads, attention.head_size or self.head_size

    def key_heads(self, rows: int) -> int:
        """Returns the key-value heads of the layers whose keys have so many rows."""
        return next((heads for heads, size in self.heads_of_layers if heads * size == rows), self.key_value_heads)

    def has_values_of_keys(self, rows: int) -> bool:
        """Returns whether layers whose keys have so many rows have no weights for values."""
        own = [self.heads_of(each) for each in self.attention if each.head_size]
        return self.keys_are_values and any(heads * size == rows for heads, size in own)

    @property
    def is_latent(self) -> bool:
        return self.latent is not None


def architecture(base: BaseFacts) -> Architecture:
    """Returns the architecture that the facts describe. Raises UnreadableConfig naming a number that they lack."""
    layers, hidden_size = _number(base, "layers"), _number(base, "hidden_size")
    carried = base.config or {}
    config = carried_config(carried)
    text = text_fields(config)
    model_type = str(text.get("model_type", base.model_type))
    experts = experts_of(text, layers, base.intermediate_size)
    return Architecture(
        model_type=model_type,
        dtype=base.dtype,
        layers=layers,
        hidden_size=hidden_size,
        mlp_width=mlp_width_of(text, base, experts),
        heads=_number(base, "attention_heads"),
        key_value_heads=first_number(text, *SPELLINGS["key_value_heads"]) or _number(base, "key_value_heads"),
        head_size=_number(base, "head_size"),
        vocabulary=first_number(text, *SPELLINGS["vocabulary_size"]) or _number(base, "vocabulary_size"),
        max_context=base.max_position_embeddings or DEFAULT_MAX_CONTEXT,
        tied=base.tied_embeddings,
        attention=attention_of(text, model_type, layers),
        sharing_layers=first_number(text, "num_kv_shared_layers") or 0,
        keys_are_values=bool(text.get("attention_k_eq_v")),
        weight_bytes=base.weight_bytes,
        tensors=loaded(base.tensors or ()),
        quantization=scheme_of_config({name: json.loads(value) for name, value in carried.items()}),
        experts=experts,
        latent=latent_of(text, model_type),
        indexer=indexer_of(text, layers),
        state=state_of(text, model_type, hidden_size),
        vision=vision_of(config),
        rotary=rotary_of(text, model_type),
    )


def _number(base: BaseFacts, fact: str) -> int:
    number: int | None = getattr(base, fact)
    if number is None:
        raise UnreadableConfig(lacks(fact, "sizing"))
    return number


def experts_of(text: Mapping[str, Any], layers: int, mlp_width: int | None) -> Experts | None:
    count = first_number(text, "num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    width = first_number(text, "moe_intermediate_size") or mlp_width
    if not count or count < 2 or not width:
        return None
    shared = first_number(text, "shared_expert_intermediate_size", "shared_intermediate_size")
    if shared is None:
        shared = (first_number(text, *SHARED_EXPERTS) or 0) * width
        shared = width if str(text.get("model_type", "")).startswith("llama4") else shared
    chosen = (
        first_number(text, "num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts") or 1
    )
    listed = _expert_layers(text, layers)
    return Experts(count, width, chosen, shared, listed) if listed else None


def _expert_layers(text: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    if isinstance(listed := text.get("moe_layers"), list):
        return tuple(layer for layer in listed if layer < layers)
    if pattern := text.get("hybrid_override_pattern"):
        return tuple(layer for layer, sign in enumerate(str(pattern)) if sign == "E")
    dense = set(text.get("mlp_only_layers") or ())
    first = first_number(text, "first_k_dense_replace", "moe_layer_start_index") or 0
    step = first_number(text, "interleave_moe_layer_step", "decoder_sparse_step", "expert_layer_period") or 1
    offset = int(text.get("expert_layer_offset", step - 1))
    return tuple(layer for layer in range(first, layers) if layer not in dense and layer % step == offset)


def mlp_width_of(text: Mapping[str, Any], base: BaseFacts, experts: Experts | None) -> int | None:
    """Returns the MLP's width in layers without experts; None: no layer has one, or config.json does not say."""
    if experts and len(experts.layers) == base.layers and text.get("model_type") not in GEMMA_4:
        return None
    return first_number(text, "intermediate_size_mlp", *SPELLINGS["intermediate_size"]) or base.intermediate_size


def latent_of(text: Mapping[str, Any], model_type: str) -> Latent | None:
    rank = first_number(text, "kv_lora_rank")
    if not rank or model_type not in LATENT_MODEL_TYPES:
        return None
    return Latent(
        key_value_rank=rank,
        rope_width=first_number(text, "qk_rope_head_dim") or 64,
        nope_width=first_number(text, "qk_nope_head_dim") or 128,
        value_width=first_number(text, "v_head_dim") or 128,
        query_rank=first_number(text, "q_lora_rank"),
    )


def indexer_of(text: Mapping[str, Any], layers: int) -> Indexer | None:
    """Source: vLLM, models/deepseek_v2.py, DeepseekV2MLAAttention: some layers may take the choice of one before."""
    heads, size = first_number(text, "index_n_heads"), first_number(text, "index_head_dim")
    chosen = first_number(text, "index_topk")
    if not heads or not size or not chosen:
        return None
    period, offset = first_number(text, "index_topk_freq") or 1, int(text.get("index_skip_topk_offset", 2))
    if pattern := text.get("index_topk_pattern"):
        return Indexer(heads, size, layers - list(pattern)[:layers].count("S"), chosen)
    return Indexer(heads, size, sum(max(layer - offset + 1, 0) % period == 0 for layer in range(layers)), chosen)


def state_of(text: Mapping[str, Any], model_type: str, hidden_size: int) -> State | None:
    """Source: vLLM, model_executor/layers/mamba/mamba_utils.py, MambaStateShapeCalculator."""
    dtype = _recurrent_dtype(text, model_type)
    if delta := linear_attention(text):
        return _kimi_delta(delta, dtype)
    if heads := first_number(text, "linear_num_value_heads"):
        key_size = first_number(text, "linear_key_head_dim") or 128
        keys = (first_number(text, "linear_num_key_heads") or heads) * key_size
        value_size = first_number(text, "linear_value_head_dim") or 128
        kernel = first_number(text, "linear_conv_kernel_dim") or 4
        mixed = (2 * keys + heads * value_size) * (kernel - 1)
        return State(mixed, heads * value_size * key_size, heads, dtype, kernel=kernel)
    if "conv" in (text.get("layer_types") or ()) or "full_attn_idxs" in text:  # LFM2: short convolutions alone
        kernel = first_number(text, "conv_L_cache") or 3
        return State(hidden_size * (kernel - 1), 0, hidden_size, kernel=kernel)
    state_size = first_number(text, "mamba_d_state", "ssm_state_size")
    if not state_size:
        return None
    kernel = first_number(text, "mamba_d_conv", "conv_kernel") or 4
    groups = first_number(text, "mamba_n_groups", "n_groups") or 1
    heads = first_number(text, "mamba_n_heads", "mamba_num_heads")
    head_size = first_number(text, "mamba_d_head", "mamba_head_dim")
    if heads and head_size:
        inner = heads * head_size
        mixed = (inner + 2 * groups * state_size) * (kernel - 1)
        return State(mixed, inner * state_size, heads, dtype, groups, 2 * state_size, kernel, checkpoints=1)
    inner = (first_number(text, "mamba_expand") or 2) * hidden_size
    return State(inner * (kernel - 1), inner * state_size, inner, dtype, kernel=kernel)


def _recurrent_dtype(text: Mapping[str, Any], model_type: str) -> str | None:
    said = text.get(SAYS_STATE_DTYPE.get(model_type, ""))
    if said in ("bfloat16", "float16", "float32"):
        return str(said)
    return "float32" if model_type in FLOAT32_STATES else None


def _kimi_delta(delta: Mapping[str, Any], dtype: str | None) -> State:
    size, kernel = first_number(delta, "head_dim") or 128, first_number(delta, "short_conv_kernel_size") or 4
    heads = first_number(delta, "num_heads") or 1
    inner = heads * size
    return State(3 * inner * (kernel - 1), inner * size, heads, dtype, kernel=kernel, checkpoints=1)


def vision_of(config: Mapping[str, Any]) -> Vision | None:
    vision = config.get("vision_config", {})
    heads = first_number(vision, "num_heads", "num_attention_heads")
    hidden = first_number(vision, "embed_dim", "hidden_size")
    deep = vision.get("deepstack_visual_indexes")
    return Vision(heads, hidden, len(deep) if isinstance(deep, list) else 0) if heads and hidden else None
