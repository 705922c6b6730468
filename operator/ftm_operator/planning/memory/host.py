"""Counts what a serving pod asks of its node besides GPUs.

vLLM, for the ranks that are in one pod:

    memory           ranks · (weights of a rank + adapters) + shared memory + HOST_BYTES: the weights pass through it
                     while they load, the adapters stay
    shared memory    ranks · SHARED_MEMORY_BYTES_PER_RANK, in /dev/shm
    processors       ranks · CPUS_PER_RANK

A model that is not sized has one pod, whose ranks together hold all weights, and asks for UNSIZED_CPUS.

llama.cpp maps the weights from the file and allocates its caches when it starts:

    memory           file + caches of all slots (llama_cpp.py) + LLAMA_CPP_BYTES
"""

from dataclasses import dataclass

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.planning.memory.llama_cpp import cache_bytes
from ftm_operator.planning.model.architecture import Architecture

SHARED_MEMORY_BYTES_PER_RANK = GIB
"""NCCL's and vLLM's message queues between the processes of a pod."""
HOST_BYTES = 2 * GIB
"""Python, CUDA and the tokenizer."""
CPUS_PER_RANK = 2
UNSIZED_CPUS = 1
LLAMA_CPP_BYTES = 512 * MIB
"""Compute buffers and the program."""
LLAMA_CPP_CPUS = 2


@dataclass(frozen=True)
class HostResources:
    """The processors and bytes of a node that one pod asks for; the shared memory is part of the memory."""

    cpus: int
    memory_bytes: int
    shared_memory_bytes: int = 0


def shared_memory_bytes(ranks: int) -> int:
    """Returns the size of /dev/shm in a pod with so many ranks."""
    return ranks * SHARED_MEMORY_BYTES_PER_RANK


def vllm_host(ranks: int, rank_weight_bytes: int, adapter_bytes: int = 0) -> HostResources:
    """Returns what a pod with so many ranks asks for, each of which keeps so many bytes of adapters."""
    shared = shared_memory_bytes(ranks)
    held = rank_weight_bytes + adapter_bytes
    return HostResources(ranks * CPUS_PER_RANK, ranks * held + shared + HOST_BYTES, shared)


def unsized_vllm_host(ranks: int, weight_bytes: int, adapter_bytes: int = 0) -> HostResources:
    """Returns what the pod of a model asks for whose GPUs are not known."""
    host = vllm_host(ranks, -(-weight_bytes // ranks), adapter_bytes)
    return HostResources(UNSIZED_CPUS, host.memory_bytes, host.shared_memory_bytes)


def llama_cpp_host(model: Architecture, file_bytes: int, slots: int, context: int) -> HostResources:
    """Returns what a pod asks for that serves a GGUF file of so many bytes, each slot with the whole context."""
    return HostResources(LLAMA_CPP_CPUS, file_bytes + cache_bytes(model, slots, context) + LLAMA_CPP_BYTES)
