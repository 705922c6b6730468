"""vLLM's CPU build, quiet and offline. These tests import it, which takes half a minute once."""

import os
from collections.abc import Mapping

import pytest

from ftm_operator.planning.model.architecture import Architecture

os.environ.update(
    HF_HUB_OFFLINE="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
)


@pytest.fixture(scope="session", autouse=True)
def checkpoints() -> Mapping[str, Architecture]:
    """Made before the first test: vLLM changes transformers' classes when it serves one through them."""
    from tests.engine.checkpoints import DROPPED, FAMILIES, checkpoint

    return {name: checkpoint(name) for name in (*FAMILIES, *DROPPED)}
