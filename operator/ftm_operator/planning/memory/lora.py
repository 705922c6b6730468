"""Counts the bytes of the adapter slots of an engine that serves adapters unmerged.

vLLM allocates `slots` pairs of matrices for every linear layer that it can adapt, whichever an adapter changes, as wide
as the largest rank it is told:

    slots · rank · (inputs + outputs) · bytes

Embeddings, routers, experts, vision towers and layers for speculation are left out. Source: lora/layers and
lora/model_manager.py of vLLM.
"""

from ftm_jobs.contract.facts import BEYOND, of_encoder
from ftm_operator.planning.memory.weights import DTYPE_BYTES
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.tensor_names import LINEAR, NOT_PACKED, module_of

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of --max-lora-rank."""


def slot_rank(rank: int) -> int | None:
    """Returns the smallest rank of a slot that holds an adapter of that rank; None: too large for any."""
    return next((each for each in RANKS if each >= rank), None)


def lora_bytes(model: Architecture, rank: int, slots: int, dtype: str) -> int:
    """Returns the bytes of all slots, over all ranks of the engine."""
    widths = sum(
        sum(group.shape) * group.count
        for group in model.tensors
        if len(group.shape) == 2
        and module_of(group.name) in LINEAR - NOT_PACKED
        and not of_encoder(group.name)
        and not {"experts", BEYOND} & {*group.name.split(".")}
    )
    return slots * rank * widths * DTYPE_BYTES[dtype]
