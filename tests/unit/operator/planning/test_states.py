"""Recurrent states as flags, the engine's version and its log say that they are kept."""

from dataclasses import replace
from math import ceil

import pytest

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.memory.engine_setup import EngineSetup, Version
from ftm_operator.planning.memory.kv_cache import CacheOptions, kv_cache
from ftm_operator.planning.memory.reserves import SMALL_BATCH
from ftm_operator.planning.sizing.request import Request, request_of
from ftm_operator.planning.sizing.search import Search
from tests.unit.operator.objects import resource
from tests.unit.operator.planning.catalogue import model_of


def options(request: Request) -> CacheOptions:
    return Search(model_of("qwen3-next-80b-a3b"), request).cache_options("bfloat16", SMALL_BATCH)


def asked(*arguments: str) -> Request:
    manifest = resource(serving={"extraArgs": list(arguments)})
    return request_of(FineTunedModel.model_validate(manifest).spec)


@pytest.mark.parametrize(("version", "cached"), [((0, 26), False), ((0, 27), True), (None, True)])
def test_prefixes_of_states_are_cached_by_default_since_a_version(version: Version | None, cached: bool) -> None:
    assert options(replace(asked(), engine=EngineSetup(version))).prefix_caching is cached


@pytest.mark.parametrize("on", [True, False])
def test_a_flag_for_prefix_caching_counts_before_the_version(on: bool) -> None:
    flag = "--enable-prefix-caching" if on else "--no-enable-prefix-caching"
    for version in ((0, 20), (0, 30)):
        assert options(replace(asked(flag), engine=EngineSetup(version))).prefix_caching is on


def test_dtypes_of_states_are_read_from_their_flags() -> None:
    found = options(asked("--mamba-cache-dtype", "float32", "--mamba-ssm-cache-dtype=bfloat16"))
    assert (found.convolution_dtype, found.recurrent_dtype) == ("float32", "bfloat16")
    assert options(asked("--mamba-cache-dtype", "auto")).convolution_dtype is None


@pytest.mark.parametrize(("asked_for", "size"), [(None, 2), ("float32", 4)])
def test_a_convolutions_dtype_holds_for_its_recurrent_state_too(asked_for: str | None, size: int) -> None:
    state = ((2 * 16 + 32) * 128 * 3 + 32 * 128 * 128) * size
    cache = kv_cache(model_of("qwen3-next-80b-a3b"), 1, 1, "bfloat16", 2048, CacheOptions(convolution_dtype=asked_for))
    assert cache.block_tokens == 16 * ceil(state / (16 * 2 * 2 * 256 * 2))
