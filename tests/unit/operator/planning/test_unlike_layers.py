"""Layers of one model that differ in their heads, or read what others keep."""

from dataclasses import replace

from ftm_operator.planning.memory.kv_cache import kv_cache
from ftm_operator.planning.memory.weights import rank_weights
from ftm_operator.planning.model.layer_attention import LayerAttention
from ftm_operator.planning.model.quantization import NONE
from tests.unit.operator.planning.catalogue import model_of


def test_layers_that_read_keys_and_values_of_others_keep_none() -> None:
    """Gemma 4 E2B: 20 of 35 layers do."""
    cache = kv_cache(model_of("gemma-4-e2b-text"), 1, 1, "bfloat16", 2048)
    assert dict(cache.groups) == {LayerAttention("sliding", 512): 4, LayerAttention("full", head_size=512): 1}
    assert cache.pool_block_bytes == 3 * 16 * 2 * 512 * 2


def test_a_block_holds_more_tokens_of_layers_with_smaller_pages() -> None:
    """A window's 512 tokens and the 4096 in flight, of which a block holds twice 16."""
    cache = kv_cache(model_of("gemma-4-e2b-text"), 1, 1, "bfloat16", 2048)
    assert cache.sequence_blocks(32768) == 4 * ((511 + 4096 + 31) // 32 + 1) + 32768 // 16


def test_keys_that_are_values_too_are_held_twice() -> None:
    model = model_of("gemma-4-31b-text")
    once = replace(model, keys_are_values=False)
    twice, held = (rank_weights(each, 2, 1, "bfloat16", NONE).attention for each in (model, once))
    assert twice - held == 10 * (4 * 512 // 2) * 5376 * 2
