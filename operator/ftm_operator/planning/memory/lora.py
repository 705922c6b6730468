"""Counts the bytes of the adapter slots of an engine that serves adapters unmerged (--enable-lora), per rank.

vLLM allocates a pair of matrices for each slot and every linear layer of the decoder, whichever an adapter changes, as
wide as the largest rank it is told:

    slots · rank · (inputs of the rank + outputs of the rank) · bytes

The inputs of a layer whose outputs are divided are whole on each rank, and the other way round. Every expert has
its own, and so has every part of a layer that vLLM joins of several: the five of Mamba 2's input (gate, x, B, C,
dt), the six of a delta net's, the three of a short convolution's, and the values that are keys (Gemma 4). A
convolution has slots as well. Some families have slots for the embedding and the output layer too, each whole on
every rank; vision towers and layers for speculation have none. Source: lora/layers and lora/model_manager.py.
"""

from math import ceil

from ftm_jobs.contract.facts import BEYOND, TensorGroup, of_encoder
from ftm_operator.planning.memory.engine_setup import AdapterSlots
from ftm_operator.planning.memory.reserves import Reserve
from ftm_operator.planning.memory.weights import DTYPE_BYTES, STATE_INPUTS, rank_shape, stage_layers
from ftm_operator.planning.model.architecture import Architecture, State
from ftm_operator.planning.model.tensor_names import LINEAR, NOT_PACKED, module_of
from ftm_operator.planning.rules.layout import Layout

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that slots may have. Source: config/lora.py, MaxLoRARanks."""

CONVOLUTION = "conv1d"
JOINED = {"in_proj_qkvz": 4, "in_proj_ba": 2, "in_proj_qkv": 3}
"""Parts of layers of delta nets."""


def adapter_bytes(model: Architecture, rank: int) -> int:
    """Returns the bytes of an adapter that changes every layer with a slot, in 16 bits, as the host holds it."""
    return slot_bytes(model, Layout(1, 1, 1), AdapterSlots(1, rank), "bfloat16").least


def slot_bytes(model: Architecture, layout: Layout, slots: AdapterSlots, dtype: str) -> Reserve:
    """Returns the bytes of all slots on one rank; the most is with those of the embedding and the output layer."""
    widths = sum(
        _widths(group, model, layout.tensor_parallel) * group.count
        for group in model.tensors
        if len(group.shape) >= 2
        and module_of(group.name) in (LINEAR - NOT_PACKED) | {CONVOLUTION, *JOINED}
        and not of_encoder(group.name)
        and BEYOND not in group.name.split(".")
    )
    of_stage = ceil(widths * max(stage_layers(model.layers, layout.pipeline_parallel)) / model.layers)
    tables = 2 * (model.vocabulary + model.hidden_size)
    each = slots.count * slots.rank * DTYPE_BYTES[dtype]
    return Reserve(each * of_stage, each * (of_stage + tables))


def _widths(group: TensorGroup, model: Architecture, tp: int) -> int:
    """Returns the inputs and outputs of a rank of all matrices in a tensor."""
    shape, module = rank_shape(group, model, tp), module_of(group.name)
    if module in JOINED or (model.state and module in STATE_INPUTS):  # of a convolution (channels, kernel), or with a 1
        return shape[0] + shape[-1] * (JOINED.get(module) or _parts_of_state(model.state, module, tp))
    pairs = 2 if module == "k_proj" and model.has_values_of_keys(group.shape[0]) else 1
    matrices = group.shape[0] if len(group.shape) == 3 else 1
    return sum(shape[-2:]) * pairs * matrices


def _parts_of_state(state: State | None, module: str, tp: int) -> int:
    """Returns the parts that vLLM joins. Source: mamba_mixer2.py, mamba_mixer.py and short_conv.py."""
    if state and state.groups:
        divided = state.groups % tp == 0
        return (3 if module == CONVOLUTION else 5) if divided else 1
    if module == CONVOLUTION:
        return 1
    return 2 if state and state.recurrent else 3
