"""Counts what an engine holds per rank for draft heads, where spec.serving.extraArgs turn speculation on.

    MTP      the checkpoint's layers beyond the decoder, divided as the decoder's; the embedding and the output layer
             that some checkpoints repeat there are shared with the model's own (v1/spec_decode/llm_base_proposer.py).
             Where facts have none, a decoder layer and a projection of two hidden states to one
    EAGLE    a decoder layer without experts, whose queries, keys and values read two hidden states; a projection of
             three to one; and an output layer where it has its own vocabulary

Each draft layer keeps a KV cache as a layer with full attention does. Of a draft model that is another checkpoint
nothing is known, so it is not counted, and the plan says so. N-grams and suffixes hold nothing on the GPU.
"""

from dataclasses import replace

from ftm_jobs.contract.facts import BEYOND, TensorGroup
from ftm_operator.planning.memory.engine_setup import Draft
from ftm_operator.planning.memory.reserves import Reserve
from ftm_operator.planning.memory.weights import DTYPE_BYTES, RankPart, rank_parts
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.layer_attention import FULL
from ftm_operator.planning.model.padding import vocabulary_rows
from ftm_operator.planning.model.quantization import Scheme


def draft_bytes(model: Architecture, tp: int, dtype: str, scheme: Scheme, draft: Draft) -> Reserve | None:
    """Returns the bytes of the draft's weights on one rank; None where it has none, or none that are known."""
    if draft.is_mtp:
        return _mtp_bytes(model, tp, dtype, scheme)
    return _eagle_bytes(model, tp, DTYPE_BYTES[dtype]) if draft.is_eagle else None


def with_draft_layers(model: Architecture, draft: Draft | None) -> Architecture:
    """Returns the model as its KV cache is laid out, with the layers of the draft."""
    if draft is None or not (draft.is_mtp or draft.is_eagle):
        return model
    layers = _mtp_layers(model) if draft.is_mtp else 1
    return replace(model, layers=model.layers + layers, attention=(*[FULL] * layers, *model.attention))


def _mtp_layers(model: Architecture) -> int:
    """Returns the layers beyond the decoder: as many as have a norm of their attention's input; at least one."""
    names = ("input_layernorm.weight", "input_layernorm_norm.weight")
    return max([1, *(each.count for each in _beyond(model) if each.name.endswith(names))])


def _mtp_bytes(model: Architecture, tp: int, dtype: str, scheme: Scheme) -> Reserve:
    if beyond := _beyond(model):
        parts = rank_parts(replace(model, tensors=beyond), tp, dtype, scheme)
        own = sum(_bytes(each) for each in parts if each.name != "embedding")
        return Reserve(own, sum(_bytes(each) for each in parts))
    layers = [each for each in rank_parts(model, tp, dtype, scheme) if each.place == "layers"]
    layer = sum(each.size * each.copies for each in layers)
    projection = 2 * model.hidden_size**2 * DTYPE_BYTES[dtype]
    return Reserve(layer + projection, layer + projection)


def _eagle_bytes(model: Architecture, tp: int, size: int) -> Reserve:
    hidden, heads, pairs = model.hidden_size, model.heads // tp, max(1, model.key_value_heads // tp)
    attention = 2 * hidden * model.head_size * (heads + 2 * pairs) + heads * model.head_size * hidden
    mlp = 3 * hidden * (model.mlp_width or 0) // tp
    layer = (attention + mlp + 3 * hidden**2) * size
    return Reserve(layer, layer + vocabulary_rows(model.vocabulary) * hidden // tp * size)


def _beyond(model: Architecture) -> tuple[TensorGroup, ...]:
    """Returns the groups beyond the decoder, named as the decoder's, so that they are divided as those are."""
    return tuple(
        each.model_copy(update={"name": each.name.replace(BEYOND, "*")})
        for each in model.tensors
        if BEYOND in each.name.split(".")
    )


def _bytes(part: RankPart) -> int:
    return part.size * part.layers * part.copies
