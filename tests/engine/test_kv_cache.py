"""Bytes of KV cache against vLLM's own sums, layer by layer, for the models that vLLM makes.

A GPU has two batches in flight; the CPU has one, so half as many tokens are given for each.
"""

import pytest
from vllm.v1.core.kv_cache_utils import _max_memory_usage_bytes_from_groups, get_kv_cache_groups

from ftm_operator.planning.memory.kv_cache import CacheOptions, kv_cache
from tests.engine.models import BLOCK_TOKENS, Rank, build
from tests.unit.operator.planning.catalogue import model_of

OPTIONS = CacheOptions(BLOCK_TOKENS)
FULL = ["llama-3.1-8b", "qwen2.5-7b", "qwen3-30b-a3b", "gemma-2b", "phi-4", "mixtral-8x7b"]
WINDOWS = ["mistral-7b-v0.1", "phi-3-mini-4k", "gemma-2-9b", "gemma-3-1b", "gpt-oss-20b", "starcoder2-15b"]


def needed(rank: Rank) -> int:
    """Bytes of one sequence at the full context, as vLLM checks them when it starts."""
    layers = rank.config.compilation_config.static_forward_context
    attending = {
        name: layer
        for name, layer in layers.items()
        if hasattr(layer, "get_kv_cache_spec") and not getattr(layer, "kv_sharing_target_layer_name", None)
    }
    specs = {name: spec for name, layer in attending.items() if (spec := layer.get_kv_cache_spec(rank.config))}
    rank.config.cache_config.kv_cache_layout = "LBHNC"
    return _max_memory_usage_bytes_from_groups(rank.config, get_kv_cache_groups(rank.config, specs))


@pytest.mark.parametrize("name", [*FULL, *WINDOWS])
@pytest.mark.parametrize(("tp", "context"), [(1, 2048), (2, 2048), (2, 4096)])
def test_a_sequence_takes_what_vllm_reckons(name: str, tp: int, context: int) -> None:
    rank = build(name, tp, context=context)
    cache = kv_cache(model_of(name), tp, 1, "bfloat16", rank.config.max_in_flight_tokens // 2, OPTIONS)
    assert cache.sequence_blocks(context) * cache.pool_block_bytes == needed(rank)


@pytest.mark.parametrize("name", ["mistral-7b-v0.1", "gpt-oss-20b", "gemma-3-1b"])
def test_a_window_is_reckoned_as_vllm_does_beyond_it(name: str) -> None:
    context = 32768
    rank = build(name, context=context)
    cache = kv_cache(model_of(name), 1, 1, "bfloat16", rank.config.max_in_flight_tokens // 2, OPTIONS)
    assert cache.sequence_blocks(context) * cache.pool_block_bytes == needed(rank)
