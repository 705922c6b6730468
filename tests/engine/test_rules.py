"""vLLM judges the same models: what it refuses is refused with the same cause, and nothing else is."""

from dataclasses import replace

import pytest
import torch
from vllm.distributed.utils import get_pp_indices
from vllm.model_executor.layers.quantization.auto_awq import AutoAWQConfig, AutoAWQLinearMethod
from vllm.model_executor.layers.quantization.utils import fp8_utils
from vllm.model_executor.models.registry import ModelRegistry

from ftm_operator.planning.memory.weights import stage_layers
from ftm_operator.planning.model.quantization import AWQ, COMPRESSED_TENSORS, NONE, Scheme
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.tensor_parallel import Split, first_rejection, quantized_inputs
from tests.engine.models import NAMES, build
from tests.engine.test_weights import PACKED_CONFIG
from tests.unit.operator.planning.catalogue import config, model_of

SIZES = [2, 3, 4, 5, 8, 16]


def ours(name: str, tp: int, scheme: Scheme = NONE) -> Rejection | None:
    return first_rejection(Split(model_of(name), tp, scheme))


def theirs(name: str, tp: int, **more: object) -> str | None:
    try:
        build(name, tp, **more)  # type: ignore[arg-type]
    except (AssertionError, ValueError, ZeroDivisionError) as error:
        return str(error) or "an assertion without words"
    return None


@pytest.mark.parametrize("name", NAMES)
def test_vllm_refuses_the_sizes_that_we_refuse_and_no_others(name: str) -> None:
    verdicts = {tp: (ours(name, tp), theirs(name, tp)) for tp in SIZES}
    assert {tp: found is None for tp, (found, _) in verdicts.items()} == {
        tp: found is None for tp, (_, found) in verdicts.items()
    }, verdicts


def test_the_cause_is_the_same_for_heads() -> None:
    found, said = ours("llama-3.1-70b", 3), theirs("llama-3.1-70b", 3)
    assert found == Rejection("AttentionHeads", "64 attention heads do not divide by 3")
    assert said
    assert "Total number of attention heads (64) must be divisible by tensor parallel size (3)" in said


@pytest.mark.parametrize("name", ["qwen2-72b", "llama-3.1-70b", "qwen2.5-7b", "yi-34b", "smollm2-135m", "phi-2"])
def test_whole_groups_per_rank_are_what_vllm_asks_of_packed_weights(name: str) -> None:
    for tp in (2, 4, 8):
        found = ours(name, tp, COMPRESSED_TENSORS)
        said = theirs(name, tp, quantization=PACKED_CONFIG)
        assert (found is None) == (said is None), (tp, found, said)


@pytest.mark.parametrize(("inputs", "tp", "group"), [(29568, 2, 128), (29568, 2, 64), (28672, 8, 128), (11008, 8, 128)])
def test_awq_asks_for_whole_groups_as_we_do(inputs: int, tp: int, group: int) -> None:
    method = AutoAWQLinearMethod(AutoAWQConfig(4, group, True, False, None, {}))
    model = replace(model_of("qwen2-72b"), mlp_width=inputs, heads=64, head_size=128, hidden_size=8192)
    split = Split(model, tp, replace(AWQ, group=group))
    layer = torch.nn.Module()
    try:
        method.create_weights(layer, inputs // tp, [8192], inputs, 8192, torch.bfloat16, weight_loader=lambda: None)
        refused = False
    except ValueError as error:
        refused = "is not aligned" in str(error)
    assert (quantized_inputs(split) is not None) == refused


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_fp8_blocks_of_experts_are_judged_as_vllm_does(tp: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen3-235b-a22b-fp8")
    assert model.experts
    monkeypatch.setattr("vllm.distributed.get_tensor_model_parallel_world_size", lambda: tp)
    try:
        fp8_utils.validate_fp8_block_shape_moe(model.experts.width // tp, [128, 128])
        refused = False
    except ValueError:
        refused = True
    assert (ours("qwen3-235b-a22b-fp8", tp, model.quantization) is not None) == refused


@pytest.mark.parametrize(("layers", "pp"), [(32, 2), (61, 2), (61, 4), (80, 3), (126, 8), (7, 7), (30, 4)])
def test_stages_have_the_layers_that_vllm_gives_them(layers: int, pp: int) -> None:
    indices = [get_pp_indices(layers, stage, pp) for stage in range(pp)]
    assert stage_layers(layers, pp) == [end - begin for begin, end in indices]


def test_every_architecture_of_the_table_is_one_that_vllm_serves() -> None:
    known = set(ModelRegistry.get_supported_archs())
    assert {config(name)["architectures"][0] for name in NAMES} <= known
