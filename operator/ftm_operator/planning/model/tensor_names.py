"""Tells what a checkpoint's tensors are to a model, by the names that families give them.

A name like model.layers.*.mlp.down_proj.weight says which layer a tensor belongs to (down_proj), of which part of the
model (mlp), whether it is in every decoder layer, and so how vLLM divides it (weights.py).
"""

from collections.abc import Iterable
from itertools import pairwise

from ftm_jobs.contract.facts import TensorGroup, of_encoder

VOCABULARY = {
    "embed_tokens",
    "embed_tokens_per_layer",
    "embed_in",
    "wte",
    "word_embeddings",
    "tok_embeddings",
    "embedding",
    "embeddings",
}
OUTPUT = {"lm_head", "embed_out", "output_layer"}
"""The output layer, whose rows are the vocabulary's like the embedding's."""
OUTPUTS_SPLIT = {
    "q_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "w1",
    "w3",
    "fc1",
    "fc_in",
    "c_fc",
    "dense_h_to_4h",
    "linear_fc1",
    "input_linear",
    "linear_1",
    "q_b_proj",
    "f_b_proj",
    "g_b_proj",
    "kv_b_proj",
    "query",
    "wq",
    "in_proj",
    "in_proj_qkvz",
    "in_proj_ba",
    "in_proj_qkv",
    "in_proj_z",
    "in_proj_a",
    "in_proj_b",
    "conv1d",
    "dt_proj",
    "A",
    "per_layer_model_projection",
}
"""Layers whose outputs are divided over ranks."""
KEYS_AND_VALUES = {"k_proj", "v_proj", "key", "value", "wk", "wv"}
"""Likewise, by heads of which there may be fewer than ranks."""
FUSED_ATTENTION = {"qkv_proj", "query_key_value", "c_attn", "Wqkv", "wqkv", "W_pack", "qkv"}
"""Queries, keys and values in one."""
INPUTS_SPLIT = {
    "o_proj",
    "out_proj",
    "down_proj",
    "w2",
    "fc2",
    "fc_out",
    "c_proj",
    "dense",
    "dense_4h_to_h",
    "linear_fc2",
    "output_linear",
    "linear_2",
    "wo",
    "proj",
    "x_proj",
}
"""Layers whose inputs are divided over ranks; a bias of theirs is whole."""
WHOLE = {
    "q_a_proj",
    "kv_a_proj_with_mqa",
    "wq_b",
    "f_a_proj",
    "g_a_proj",
    "per_layer_input_gate",
    "per_layer_projection",
}
"""Linear layers that each rank holds whole."""
LINEAR = OUTPUTS_SPLIT | KEYS_AND_VALUES | FUSED_ATTENTION | INPUTS_SPLIT | WHOLE
NOT_PACKED = {"conv1d", "dt_proj", "A", "in_proj_ba"}
"""Modules that quantization leaves as they are."""
LAYER_LISTS = {"layers", "h", "blocks", "layer", "block"}
PACKED_SUFFIXES = ("_blocks", "_scales", "_bias")


def loaded(groups: Iterable[TensorGroup]) -> tuple[TensorGroup, ...]:
    """Returns the groups that an engine loads, by their plain names.

    A base's own files may have adapters (Phi-4-multimodal), which vLLM leaves out: models/phi4mm.py, hf_to_vllm_mapper.
    """
    return tuple(
        each.model_copy(update={"name": each.name.replace(".base_layer.", ".")})
        for each in groups
        if not {"lora_A", "lora_B"}.intersection(each.name.split("."))
    )


def part_of(name: str) -> str:
    """Returns the item of `Weights` that a tensor belongs to."""
    components = name.split(".")
    if of_encoder(name):
        return "vision"
    if any(each in VOCABULARY | OUTPUT for each in components):
        return "embedding"
    if "experts" in components:
        return "experts"
    if any(
        each.startswith(("self_attn", "attn", "attention", "self_attention", "linear_attn", "mixer", "mamba"))
        for each in components
    ):
        return "attention"
    if any(
        each in ("mlp", "feed_forward", "block_sparse_moe", "ffn", "shared_experts", "shared_expert")
        for each in components
    ):
        return "mlp"
    return "other"


def module_of(name: str) -> str:
    """Returns the layer that a tensor belongs to: q_proj."""
    return module_and_leaf(name)[0]


def place_of(name: str) -> str:
    """Returns its place: layers, first, last or everywhere."""
    components = name.split(".")
    if of_encoder(name) or any(each in VOCABULARY for each in components):
        return "first"
    if any(each in OUTPUT for each in components):
        return "last"
    listed = any(each in LAYER_LISTS and after == "*" for each, after in pairwise(components))
    return "layers" if listed else "everywhere"


def module_and_leaf(name: str) -> tuple[str, str]:
    """Returns the module's name and what the tensor is to it: ("q_proj", "weight")."""
    components = [each for each in name.split(".") if each != "*"]
    last = components[-1]
    for suffix in PACKED_SUFFIXES:
        if last.endswith(suffix) and last != suffix.lstrip("_"):
            return last.removesuffix(suffix), suffix
    if last in LINEAR:
        return last, "weight"
    return (components[-2] if len(components) > 1 else last), last
