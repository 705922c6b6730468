"""Tells whether a model fits a GPU, by one rank's memory, and which context is left.

    budget = usable · utilization / replicas that share the GPU
    budget >= weights + reserves + KV cache

vLLM gives the KV cache what the rest leaves of the budget, and refuses to start when that holds not even one sequence
of max_model_len. Here it must hold `concurrency` of them. Source: v1/worker/gpu_worker.py, determine_available_memory;
v1/core/kv_cache_utils.py, check_enough_kv_cache_memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.engine_setup import ENGINE, EngineSetup
from ftm_operator.planning.memory.kv_cache import DEFAULTS, CacheOptions, KVCache, kv_cache
from ftm_operator.planning.memory.lora import slot_bytes
from ftm_operator.planning.memory.reserves import WITH_WEIGHTS, Batch, Reserves, reserves
from ftm_operator.planning.memory.speculation import draft_bytes, with_draft_layers
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.rules.layout import Layout

LEAST_RESERVES = "leastReserves"
"""The name of the reserves' other end in a plan's memory."""


@dataclass(frozen=True)
class Load:
    """The model that is to be held, in its dtypes, whatever holds it."""

    model: Architecture
    dtype: str
    scheme: Scheme
    cache_dtype: str
    engine: EngineSetup = ENGINE
    cache_options: CacheOptions = DEFAULTS


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank by item; the KV cache comes on top."""

    budget: int
    weights: int
    reserves: Reserves
    cache: KVCache
    correction: int = 0
    """Bytes that an engine was measured to hold beyond all these; below zero where it held less."""

    @property
    def held(self) -> int:
        """Returns the bytes of all but the KV cache."""
        return self.weights + sum(each.most for each in self.reserves.values()) + self.correction

    @property
    def loaded(self) -> int:
        """Returns the bytes that an engine logs as weights: what it makes with them counts too."""
        return self.weights + sum(self.reserves[name].most for name in WITH_WEIGHTS if name in self.reserves)

    @property
    def unsure(self) -> int:
        """Returns the bytes of the reserves that an engine may turn out not to hold; 0 once one was measured."""
        return 0 if self.correction else sum(each.most - each.least for each in self.reserves.values())

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
            **{name: each.most for name, each in self.reserves.items()},
            **({"measuredCorrection": self.correction} if self.correction else {}),
            LEAST_RESERVES: sum(each.least for each in self.reserves.values()),
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
        reserves={
            **reserves(load.model, layout, load.dtype, batch, load.engine, accelerator.capability),
            **_asked_for(load, layout),
        },
        cache=kv_cache(
            with_draft_layers(load.model, load.engine.draft),
            tp,
            pp,
            load.cache_dtype,
            batch.tokens,
            load.cache_options,
        ),
    )


def _asked_for(load: Load, layout: Layout) -> Reserves:
    """Returns what extraArgs ask for besides: slots for adapters, and draft heads."""
    model, engine, asked = load.model, load.engine, {}
    if engine.slots:
        asked["lora"] = slot_bytes(model, layout, engine.slots, load.dtype)
    draft = draft_bytes(model, layout.tensor_parallel, load.dtype, load.scheme, engine.draft) if engine.draft else None
    return {**asked, **({"speculation": draft} if draft else {})}
