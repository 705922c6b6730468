"""Tells whether a model fits a GPU, by one rank's memory, and which context is left.

    budget = usable · utilization / replicas that share the GPU
    budget >= weights + activations + CUDA graphs + non-torch + rotary + slack + LoRA + KV cache

vLLM gives the KV cache what the rest leaves of the budget, and refuses to start when that holds not even one sequence
of max_model_len. Here it must hold `concurrency` of them. Source: v1/worker/gpu_worker.py, determine_available_memory;
v1/core/kv_cache_utils.py, check_enough_kv_cache_memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.kv_cache import DEFAULTS, CacheOptions, KVCache, kv_cache
from ftm_operator.planning.memory.reserves import (
    SLACK_BYTES,
    Batch,
    activation_bytes,
    graph_bytes,
    non_torch_bytes,
    rotary_bytes,
)
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.rules.layout import Layout


@dataclass(frozen=True)
class Load:
    """The model that is to be held, in its dtypes, whatever holds it."""

    model: Architecture
    dtype: str
    scheme: Scheme
    cache_dtype: str
    lora_bytes: int = 0
    """Bytes of the adapters' slots, over all ranks."""
    cache_options: CacheOptions = DEFAULTS


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank by item; the KV cache comes on top."""

    budget: int
    weights: int
    activations: int
    graphs: int
    non_torch: int
    rotary: int
    slack: int
    lora: int
    cache: KVCache
    correction: int = 0
    """Bytes that an engine was measured to hold beyond all these; below zero where it held less."""

    @property
    def held(self) -> int:
        """Returns the bytes of all but the KV cache."""
        estimated = self.weights + self.activations + self.graphs + self.non_torch + self.rotary + self.slack
        return estimated + self.lora + self.correction

    @property
    def left(self) -> int:
        """Returns the bytes for the KV cache; negative when there are none."""
        return self.budget - self.held

    def fits(self, sequences: int, context: int) -> bool:
        """Returns whether so many sequences at that length fit at once."""
        return self.cache.needed_bytes(sequences, context) <= self.left

    def longest_context(self, sequences: int, limit: int) -> int:
        """Returns the longest context up to `limit` that fits, in whole blocks unless it is the limit; 0: none."""
        if self.fits(sequences, limit):
            return limit
        block = self.cache.block_tokens
        if not self.fits(sequences, min(block, limit)):
            return 0
        low, high = 0, limit // block
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(sequences, middle * block):
                low = middle
            else:
                high = middle - 1
        return low * block

    def items(self, sequences: int, context: int) -> Mapping[str, int]:
        """Returns the bytes by the names that `ftm plan -o json` shows."""
        return {
            "total": self.budget,
            "weights": self.weights,
            "activations": self.activations,
            "cudaGraphs": self.graphs,
            "nonTorch": self.non_torch,
            "rotary": self.rotary,
            "slack": self.slack,
            **({"lora": self.lora} if self.lora else {}),
            **({"measuredCorrection": self.correction} if self.correction else {}),
            "kvCacheNeeded": self.cache.needed_bytes(sequences, context),
            "kvCache": self.left,
        }


def rank_memory(
    load: Load, weight_bytes: int, layout: Layout, accelerator: AcceleratorClass, batch: Batch, utilization: float
) -> RankMemory:
    """Returns the memory of the rank that holds most; `weight_bytes` are that rank's."""
    tp, pp = layout.tensor_parallel, layout.pipeline_parallel
    return RankMemory(
        budget=int(accelerator.usable_bytes * utilization / accelerator.shared_by),
        weights=weight_bytes,
        activations=activation_bytes(load.model, tp, load.dtype, batch),
        graphs=graph_bytes(load.model, pp),
        non_torch=non_torch_bytes(layout.gpus),
        rotary=rotary_bytes(load.model, load.dtype),
        slack=SLACK_BYTES,
        lora=-(-load.lora_bytes // tp),
        cache=kv_cache(load.model, tp, pp, load.cache_dtype, batch.tokens, load.cache_options),
    )
