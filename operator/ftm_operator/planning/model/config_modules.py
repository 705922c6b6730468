"""The tensors of each part of a model, by its architecture: (name, shape, how many). Shapes are (outputs, inputs)."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftm_jobs.contract.config_fields import first_number
from ftm_operator.planning.model.architecture import Architecture, Experts, Latent
from ftm_operator.planning.model.layer_attention import GEMMA_4, linear_attention

Tensor = tuple[str, tuple[int, ...], int]

PLAIN_MLP = {
    "bloom",
    "falcon",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "gptj",
    "mpt",
    "nemotron",
    "opt",
    "phi",
    "starcoder2",
}
"""Two layers and an activation between them; all others multiply by a gate."""
LEARNED_POSITIONS = {"gpt2", "gpt_bigcode", "opt"}
BIASED_ATTENTION = {"gpt2", "gpt_bigcode", "gpt_neox", "opt", "phi", "bloom", "gpt_oss"}
BIASED_QUERIES = {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text", "chatglm"}
FOUR_NORMS = {"gemma2", "gemma3", "gemma3_text", *GEMMA_4, "glm4", "olmo2"}
ONE_NORM = {"phi", "cohere", "cohere2", "nemotron_h"}
UNGATED = {*PLAIN_MLP, "nemotron_h"}
"""Two layers likewise, whose norms have no bias."""
HEAD_NORMS = {
    "gemma3",
    "gemma3_text",
    *GEMMA_4,
    "qwen3",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_omni_moe_text",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
    "lfm2",
}
STACKED_EXPERTS = {"gpt_oss", "llama4", "llama4_text"}
"""All experts of a layer in one tensor."""

LAYER = "model.layers.*"


def embeddings(model: Architecture, text: Mapping[str, Any]) -> Iterator[Tensor]:
    yield "model.embed_tokens.weight", (model.vocabulary, model.hidden_size), 1
    if model.model_type in LEARNED_POSITIONS:
        yield "model.wpe.weight", (model.max_context, model.hidden_size), 1
    yield "model.norm.weight", (model.hidden_size,), 1
    if model.model_type in PLAIN_MLP:
        yield "model.norm.bias", (model.hidden_size,), 1
    if not model.tied:
        yield "lm_head.weight", (model.vocabulary, model.hidden_size), 1
        if text.get("lm_head_bias") or model.model_type == "phi":
            yield "lm_head.bias", (model.vocabulary,), 1


def decoder(model: Architecture, text: Mapping[str, Any]) -> Iterator[Tensor]:
    attending = sum(layer.kind != "state" for layer in model.attention)
    if model.latent:
        yield from _latent_attention(model, model.latent, attending)
        yield from _index(model, model.latent)
    else:
        for heads, size in sorted(model.heads_of_layers):
            yield from _attention(model, text, heads, size)
    if model.state:
        yield from _state(model, text, len(model.attention) - attending)
    yield from _per_layer_inputs(model, text)
    yield from _mlps(model, text)
    one_norm = model.model_type in ONE_NORM or (
        model.model_type == "falcon" and not text.get("new_decoder_architecture")
    )
    norms = 4 if model.model_type in FOUR_NORMS else 1 if one_norm else 2
    for number in range(norms):
        yield f"{LAYER}.norm_{'abcd'[number]}.weight", (model.hidden_size,), model.layers
        if model.model_type in PLAIN_MLP:
            yield f"{LAYER}.norm_{'abcd'[number]}.bias", (model.hidden_size,), model.layers


def _attention(model: Architecture, text: Mapping[str, Any], key_heads: int, size: int) -> Iterator[Tensor]:
    """The attention of layers with such heads."""
    layers, keeping = (
        sum(each.kind != "state" and model.heads_of(each) == (key_heads, size) for each in attention)
        for attention in (model.attention, model.keeping)
    )
    hidden, queries, keys = model.hidden_size, model.heads * size, key_heads * size
    gate = 2 if "linear_num_value_heads" in text else 1
    name = f"{LAYER}.self_attn"
    yield f"{name}.q_proj.weight", (queries * gate, hidden), layers
    yield f"{name}.k_proj.weight", (keys, hidden), keeping
    if not model.has_values_of_keys(keys):
        yield f"{name}.v_proj.weight", (keys, hidden), keeping
    yield f"{name}.o_proj.weight", (hidden, queries), layers
    all_biased = bool(text.get("attention_bias") or text.get("bias")) or model.model_type in BIASED_ATTENTION
    if model.model_type == "starcoder2":
        all_biased = bool(text.get("use_bias", True))
    if all_biased or model.model_type in BIASED_QUERIES or text.get("add_qkv_bias") or text.get("qkv_bias"):
        yield f"{name}.q_proj.bias", (queries,), layers
        yield f"{name}.k_proj.bias", (keys,), layers
        yield f"{name}.v_proj.bias", (keys,), layers
    if all_biased:
        yield f"{name}.o_proj.bias", (hidden,), layers
    if model.model_type in HEAD_NORMS:
        yield f"{name}.q_norm.weight", (size,), layers
        yield f"{name}.k_norm.weight", (size,), keeping
    if model.model_type == "gpt_oss":
        yield f"{name}.sinks", (model.heads,), layers


def _per_layer_inputs(model: Architecture, text: Mapping[str, Any]) -> Iterator[Tensor]:
    """Gemma 4's embeddings of each layer."""
    size = first_number(text, "hidden_size_per_layer_input")
    if not size or model.model_type not in GEMMA_4:
        return
    rows, hidden, all_layers = (
        first_number(text, "vocab_size_per_layer_input") or model.vocabulary,
        model.hidden_size,
        size * model.layers,
    )
    yield "model.embed_tokens_per_layer.weight", (rows, all_layers), 1
    yield "model.per_layer_model_projection.weight", (all_layers, hidden), 1
    yield "model.per_layer_projection_norm.weight", (size,), 1
    yield f"{LAYER}.per_layer_input_gate.weight", (size, hidden), model.layers
    yield f"{LAYER}.per_layer_projection.weight", (hidden, size), model.layers
    yield f"{LAYER}.post_per_layer_input_norm.weight", (hidden,), model.layers


def _latent_attention(model: Architecture, latent: Latent, layers: int) -> Iterator[Tensor]:
    hidden, heads, name = model.hidden_size, model.heads, f"{LAYER}.self_attn"
    query = heads * (latent.nope_width + latent.rope_width)
    if latent.query_rank:
        yield f"{name}.q_a_proj.weight", (latent.query_rank, hidden), layers
        yield f"{name}.q_a_layernorm.weight", (latent.query_rank,), layers
        yield f"{name}.q_b_proj.weight", (query, latent.query_rank), layers
    else:
        yield f"{name}.q_proj.weight", (query, hidden), layers
    yield f"{name}.kv_a_proj_with_mqa.weight", (latent.key_value_rank + latent.rope_width, hidden), layers
    yield f"{name}.kv_a_layernorm.weight", (latent.key_value_rank,), layers
    yield f"{name}.kv_b_proj.weight", (heads * (latent.nope_width + latent.value_width), latent.key_value_rank), layers
    yield f"{name}.o_proj.weight", (hidden, heads * latent.value_width), layers


def _index(model: Architecture, latent: Latent) -> Iterator[Tensor]:
    if index := model.indexer:
        name = f"{LAYER}.self_attn.indexer"
        queries = index.heads * index.head_size
        yield f"{name}.wq_b.weight", (queries, latent.query_rank or model.hidden_size), index.layers
        yield f"{name}.wk.weight", (index.head_size, model.hidden_size), index.layers
        yield f"{name}.weights_proj.weight", (index.heads, model.hidden_size), index.layers


def _kimi_delta(model: Architecture, layers: int) -> Iterator[Tensor]:
    assert model.state
    hidden, heads = model.hidden_size, model.state.heads
    inner = model.state.convolution // (3 * (model.state.kernel - 1))
    size, name = inner // heads, f"{LAYER}.linear_attn"
    for module in ("q_proj", "k_proj", "v_proj"):
        yield f"{name}.{module}.weight", (inner, hidden), layers
    yield f"{name}.in_proj_b.weight", (heads, hidden), layers
    for gate in "fg":
        yield f"{name}.{gate}_a_proj.weight", (size, hidden), layers
        yield f"{name}.{gate}_b_proj.weight", (inner, size), layers
    yield f"{name}.conv1d.weight", (3 * inner, model.state.kernel), layers
    yield f"{name}.o_norm.weight", (size,), layers
    yield f"{name}.o_proj.weight", (hidden, inner), layers


def _state(model: Architecture, text: Mapping[str, Any], layers: int) -> Iterator[Tensor]:
    """Gated delta nets exactly, Mamba by its projections."""
    assert model.state
    if linear_attention(text):
        yield from _kimi_delta(model, layers)
        return
    hidden, name = model.hidden_size, f"{LAYER}.mixer"
    if not model.state.recurrent:
        yield f"{name}.in_proj.weight", (3 * hidden, hidden), layers
        yield f"{name}.conv1d.weight", (hidden, model.state.kernel), layers
        yield f"{name}.out_proj.weight", (hidden, hidden), layers
        return
    if "linear_num_value_heads" in text:
        values = int(text["linear_num_value_heads"]) * int(text.get("linear_value_head_dim", 128))
        keys = int(text.get("linear_num_key_heads", 16)) * int(text.get("linear_key_head_dim", 128))
        name = f"{LAYER}.linear_attn"
        yield f"{name}.in_proj_qkvz.weight", (2 * keys + 2 * values, hidden), layers
        yield f"{name}.in_proj_ba.weight", (2 * model.state.heads, hidden), layers
        yield f"{name}.conv1d.weight", (2 * keys + values, int(text.get("linear_conv_kernel_dim", 4))), layers
        yield f"{name}.out_proj.weight", (hidden, values), layers
        return
    size = int(text.get("mamba_d_state", text.get("ssm_state_size", 128)))
    kernel = int(text.get("mamba_d_conv", text.get("conv_kernel", 4)))
    inner = model.state.recurrent // size
    yield f"{name}.out_proj.weight", (hidden, inner), layers
    if "mamba_n_heads" in text or "mamba_num_heads" in text:
        groups = int(text.get("mamba_n_groups", text.get("n_groups", 1)))
        mixed = inner + 2 * groups * size
        yield f"{name}.in_proj.weight", (inner + mixed + model.state.heads, hidden), layers
        yield f"{name}.conv1d.weight", (mixed, kernel), layers
        return
    steps = -(-hidden // 16)
    yield f"{name}.in_proj.weight", (2 * inner, hidden), layers
    yield f"{name}.conv1d.weight", (inner, kernel + 1), layers
    yield f"{name}.x_proj.weight", (steps + 2 * size, inner), layers
    yield f"{name}.dt_proj.weight", (inner, steps + 1), layers
    yield f"{name}.A.weight", (inner, size + 1), layers


def _mlps(model: Architecture, text: Mapping[str, Any]) -> Iterator[Tensor]:
    hidden, experts = model.hidden_size, model.experts
    dense = model.layers - (len(experts.layers) if experts else 0)
    if "hybrid_override_pattern" in text:
        dense = str(text["hybrid_override_pattern"]).count("-")
    if experts and model.mlp_width and model.model_type in GEMMA_4:
        dense = model.layers
    if dense and model.mlp_width and (wide := model.sharing_layers if text.get("use_double_wide_mlp") else 0):
        yield from mlp(f"{LAYER}.mlp", hidden, model.mlp_width, dense - wide)
        yield from mlp(f"{LAYER}.mlp", hidden, 2 * model.mlp_width, wide)
    elif dense and model.mlp_width:
        width = _adjusted(model.mlp_width, text) if model.model_type == "lfm2" else model.mlp_width
        yield from mlp(f"{LAYER}.mlp", hidden, width, dense, gated=model.model_type not in UNGATED)
        biased = bool(text.get("mlp_bias") or text.get("bias"))
        if biased or model.model_type in {"gpt2", "gpt_bigcode", "gpt_neox", "opt", "phi", "starcoder2", "bloom"}:
            yield f"{LAYER}.mlp.up_proj.bias", (model.mlp_width,), dense
            yield f"{LAYER}.mlp.down_proj.bias", (hidden,), dense
    elif dense and not experts:
        yield from mlp(f"{LAYER}.mlp", hidden, 4 * hidden, dense, gated=False)
    if experts:
        yield from _experts(model, experts, text)


def _adjusted(width: int, text: Mapping[str, Any]) -> int:
    """Returns the width that LFM2 makes of config.json's. Source: vLLM, models/lfm2.py, Lfm2MLP."""
    if not text.get("block_auto_adjust_ff_dim", True):
        return width
    unit = first_number(text, "block_multiple_of") or 256
    adjusted = int(float(text.get("block_ffn_dim_multiplier") or 1) * (2 * width // 3))
    return -(-adjusted // unit) * unit


def _experts(model: Architecture, experts: Experts, text: Mapping[str, Any]) -> Iterator[Tensor]:
    hidden, width, layers, name = model.hidden_size, experts.width, len(experts.layers), f"{LAYER}.mlp"
    yield f"{name}.gate.weight", (experts.count, hidden), layers
    if model.model_type in STACKED_EXPERTS:
        yield f"{name}.experts.gate_up_proj", (experts.count, hidden, 2 * width), layers
        yield f"{name}.experts.down_proj", (experts.count, width, hidden), layers
        if model.model_type == "gpt_oss":
            yield f"{name}.gate.bias", (experts.count,), layers
            yield f"{name}.experts.gate_up_proj_bias", (experts.count, 2 * width), layers
            yield f"{name}.experts.down_proj_bias", (experts.count, hidden), layers
    else:
        yield from mlp(f"{name}.experts.*", hidden, width, layers * experts.count, model.model_type not in UNGATED)
    if model.model_type in GEMMA_4:
        yield f"{LAYER}.router.scale", (hidden,), layers
        yield f"{LAYER}.router.per_expert_scale", (experts.count,), layers
        for norm in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"):
            yield f"{LAYER}.{norm}.weight", (hidden,), layers
    if experts.shared_width:
        yield from mlp(f"{name}.shared_experts", hidden, experts.shared_width, layers)
        if "shared_expert_intermediate_size" in text:
            yield f"{name}.shared_expert_gate.weight", (1, hidden), layers


def mlp(name: str, hidden: int, width: int, count: int, gated: bool = True) -> Iterator[Tensor]:
    if gated:
        yield f"{name}.gate_proj.weight", (width, hidden), count
    yield f"{name}.up_proj.weight", (width, hidden), count
    yield f"{name}.down_proj.weight", (hidden, width), count
