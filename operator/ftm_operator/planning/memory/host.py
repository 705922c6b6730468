"""Counts what a serving pod asks of its node besides GPUs.

vLLM, for the ranks that are in one pod:

    memory           ranks · weights of a rank + shared memory + HOST_BYTES: the weights pass through it while they load
    shared memory    ranks · SHARED_MEMORY_BYTES_PER_RANK, in /dev/shm
    processors       ranks · CPUS_PER_RANK
"""

from dataclasses import dataclass

from ftm_operator.planning.memory.reserves import GIB

SHARED_MEMORY_BYTES_PER_RANK = GIB
"""NCCL's and vLLM's message queues between the processes of a pod."""
HOST_BYTES = 2 * GIB
"""Python, CUDA and the tokenizer."""
CPUS_PER_RANK = 2


@dataclass(frozen=True)
class HostResources:
    """The processors and bytes of a node that one pod asks for; the shared memory is part of the memory."""

    cpus: int
    memory_bytes: int
    shared_memory_bytes: int


def vllm_host(ranks: int, rank_weight_bytes: int) -> HostResources:
    """Returns what a pod with so many ranks asks for."""
    shared = ranks * SHARED_MEMORY_BYTES_PER_RANK
    return HostResources(ranks * CPUS_PER_RANK, ranks * rank_weight_bytes + shared + HOST_BYTES, shared)
