"""From a checkpoint's own tensors, as transformers names and saves them: what inspect finds gives each rank's bytes."""

from collections.abc import Mapping

import pytest

from ftm_operator.planning.memory.weights import rank_weights
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import AWQ, NONE
from tests.engine.checkpoints import FAMILIES
from tests.engine.models import build
from tests.engine.test_weights import AWQ_CONFIG

WITHIN = 1e-4
"""vLLM leaves out the bias of Phi-2's output layer, and gives GPT-2's a whole norm."""


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tp", [1, 2])
def test_each_rank_holds_what_the_checkpoints_tensors_say(
    name: str, tp: int, checkpoints: Mapping[str, Architecture]
) -> None:
    found = checkpoints[name]
    held = build(name, tp).weight_bytes
    assert rank_weights(found, tp, 1, "bfloat16", NONE).total == pytest.approx(held, rel=WITHIN)


@pytest.mark.parametrize("name", ["mistral-7b-v0.1", "phi-3-mini-4k", "qwen2-0.5b"])
def test_packing_finds_the_checkpoints_linear_layers(name: str, checkpoints: Mapping[str, Architecture]) -> None:
    found = checkpoints[name]
    held = build(name, quantization=AWQ_CONFIG).weight_bytes
    assert rank_weights(found, 1, 1, "bfloat16", AWQ).total == pytest.approx(held, rel=WITHIN)
