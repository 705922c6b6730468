"""Bytes of newer families, as predicted from config.json alone, against vLLM's own models and sums."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import prod

import pytest
import torch
from vllm.platforms import current_platform

from ftm_operator.planning.memory.kv_cache import CacheOptions, kv_cache
from ftm_operator.planning.memory.weights import rank_weights
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import NONE
from tests.engine.checkpoints import DROPPED
from tests.engine.models import BLOCK_TOKENS, UNCACHED, Rank, build
from tests.engine.test_kv_cache import needed
from tests.unit.operator.planning.catalogue import NEWER, model_of

NAMES = [name for name in NEWER if name not in DROPPED]
HYBRIDS = [name for name in NAMES if model_of(name).state]
WITHIN = 1e-3
"""The correction of routers, in float32, is left out."""
CONTEXT = 4096
OPTIONS = CacheOptions(BLOCK_TOKENS)


class SmallestBlocks:
    """A kind of attention whose blocks have at least 16 tokens, as on a GPU."""

    @staticmethod
    def get_supported_kernel_block_sizes() -> list[int]:
        return [16]

    @staticmethod
    def customize_spec(spec: object) -> object:
        return spec


@cache
def rank_of(name: str, tp: int) -> Rank:
    return build(name, tp, context=CONTEXT)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tp", [1, 2])
def test_each_rank_holds_what_is_predicted(name: str, tp: int) -> None:
    predicted = rank_weights(model_of(name), tp, 1, "bfloat16", NONE).total
    assert predicted == pytest.approx(rank_of(name, tp).weight_bytes, rel=WITHIN)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HYBRIDS])
@pytest.mark.parametrize("tp", [1, 2])
def test_a_sequence_takes_what_vllm_reckons(name: str, tp: int) -> None:
    rank = build(name, tp, context=CONTEXT)
    cache = kv_cache(model_of(name), tp, 1, "bfloat16", rank.config.max_in_flight_tokens // 2, OPTIONS)
    assert cache.sequence_blocks(CONTEXT) * cache.pool_block_bytes == needed(rank)


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize("has_avx512_bf16", [False, True])
def test_a_sequence_takes_the_states_that_vllm_reckons(
    name: str, has_avx512_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU build keeps recurrent states in float32 on processors with AVX-512 BF16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512_bf16)
    rank = build(name, context=CONTEXT)
    current_platform._align_hybrid_block_size(rank.config, SmallestBlocks)  # type: ignore[arg-type]
    states = rank.config.cache_config.mamba_ssm_cache_dtype
    assert states == "float32" or not has_avx512_bf16
    options = replace(
        OPTIONS, prefix_caching=name not in UNCACHED, recurrent_dtype=None if states == "auto" else states
    )
    cache = kv_cache(model_of(name), 1, 1, "bfloat16", rank.config.max_in_flight_tokens // 2, options)
    assert cache.sequence_blocks(CONTEXT) * cache.pool_block_bytes == needed(rank)


@pytest.mark.parametrize("name", DROPPED)
def test_families_that_vllm_has_dropped_hold_what_transformers_makes(
    name: str, checkpoints: Mapping[str, Architecture]
) -> None:
    weights = sum(prod(group.shape) * group.count for group in checkpoints[name].tensors)
    assert rank_weights(model_of(name), 1, 1, "bfloat16", NONE).total == pytest.approx(2 * weights, rel=WITHIN)
