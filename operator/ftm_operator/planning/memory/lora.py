"""Counts the bytes of the adapter slots of an engine that serves adapters unmerged (--enable-lora), per rank.

vLLM allocates a pair of matrices for each slot and every linear layer of the decoder, whichever an adapter changes, as
wide as the largest rank it is told:

    slots · rank · (inputs of the rank + outputs of the rank) · bytes

The inputs of a layer whose outputs are divided are whole on each rank, and the other way round. Every expert has its
own. Some families have slots for the embedding and the output layer too, each whole on every rank; vision towers and
layers for speculation have none. Source: lora/layers and lora/model_manager.py.
"""

from math import ceil

from ftm_jobs.contract.facts import BEYOND, of_encoder
from ftm_operator.planning.memory.engine_setup import AdapterSlots
from ftm_operator.planning.memory.reserves import Reserve
from ftm_operator.planning.memory.weights import DTYPE_BYTES, rank_shape, stage_layers
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.tensor_names import LINEAR, NOT_PACKED, module_of
from ftm_operator.planning.rules.layout import Layout


def slot_bytes(model: Architecture, layout: Layout, slots: AdapterSlots, dtype: str) -> Reserve:
    """Returns the bytes of all slots on one rank; the most is with those of the embedding and the output layer."""
    widths = sum(
        sum(rank_shape(group, model, layout.tensor_parallel)[-2:]) * _matrices(group.shape) * group.count
        for group in model.tensors
        if len(group.shape) >= 2
        and module_of(group.name) in LINEAR - NOT_PACKED
        and not of_encoder(group.name)
        and BEYOND not in group.name.split(".")
    )
    of_stage = ceil(widths * max(stage_layers(model.layers, layout.pipeline_parallel)) / model.layers)
    tables = 2 * (model.vocabulary + model.hidden_size)
    each = slots.count * slots.rank * DTYPE_BYTES[dtype]
    return Reserve(each * of_stage, each * (of_stage + tables))


def _matrices(shape: tuple[int, ...]) -> int:
    """Returns how many matrices a tensor holds: one, or those of all experts."""
    return shape[0] if len(shape) == 3 else 1
