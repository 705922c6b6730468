"""The constants that the planner was given are those of the installed vLLM."""

import pytest
from vllm import envs
from vllm.config import model as model_config
from vllm.config.cache import CacheConfig
from vllm.model_executor.layers.quantization import get_quantization_config
from vllm.model_executor.layers.vocab_parallel_embedding import DEFAULT_VOCAB_PADDING_SIZE

from ftm_operator.planning.memory.kv_cache import BLOCK_TOKENS
from ftm_operator.planning.memory.reserves import UTILIZATION
from ftm_operator.planning.model.padding import VOCABULARY_PADDING
from ftm_operator.planning.model.quantization import MINIMUM_CAPABILITY, Method
from ftm_operator.planning.rules.placement import NOT_IN_FLOAT16
from ftm_operator.resources.serving.vllm import ENVIRONMENT


def test_blocks_and_the_share_of_a_gpu() -> None:
    assert CacheConfig.DEFAULT_BLOCK_SIZE == BLOCK_TOKENS
    assert CacheConfig().gpu_memory_utilization == UTILIZATION


def test_families_that_overflow_in_float16() -> None:
    assert set(model_config._FLOAT16_NOT_SUPPORTED_MODELS) == NOT_IN_FLOAT16


def test_the_padding_of_the_vocabulary() -> None:
    assert DEFAULT_VOCAB_PADDING_SIZE == VOCABULARY_PADDING


def test_variables_are_ones_that_it_reads() -> None:
    own = {name for name in ENVIRONMENT if name.startswith("VLLM_")}
    assert own
    assert own <= set(envs.environment_variables)


@pytest.mark.parametrize("method", MINIMUM_CAPABILITY)
def test_the_compute_capability_that_a_quantization_asks_for(method: Method) -> None:
    major, minor = MINIMUM_CAPABILITY[method]
    assert get_quantization_config(method).get_min_capability() == 10 * major + minor
