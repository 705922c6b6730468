"""Alike tensors put together, and that what planning reads of a model fits a termination message."""

import json
from typing import Any

import pytest

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.tensor_groups import group_name, tensor_groups
from ftm_jobs.contract.config import architecture_config
from ftm_jobs.contract.facts import AdapterFacts, Facts, TensorGroup
from ftm_jobs.contract.report import TERMINATION_MESSAGE_BYTES, Report
from ftm_jobs.contract.steps import Outcome, Step
from tests.unit.operator.planning.catalogue import base_facts_of, config


def tensor(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    return Tensor(name, dtype, shape, 0, 0)


def test_tensors_that_differ_in_numbers_alone_are_one_group() -> None:
    found = tensor_groups(
        [
            tensor("model.layers.0.mlp.experts.0.w1.weight", 14, 4),
            tensor("model.layers.0.mlp.experts.1.w1.weight", 14, 4),
            tensor("model.layers.1.mlp.experts.0.w1.weight", 14, 4),
            tensor("model.layers.1.mlp.experts.1.w1.weight", 14, 4, dtype="F32"),
            tensor("model.norm.weight", 4),
        ],
        layers=2,
    )
    assert found == (
        TensorGroup(name="model.layers.*.mlp.experts.*.w1.weight", shape=(14, 4), dtype="BF16", count=3),
        TensorGroup(name="model.layers.*.mlp.experts.*.w1.weight", shape=(14, 4), dtype="F32", count=1),
        TensorGroup(name="model.norm.weight", shape=(4,), dtype="BF16", count=1),
    )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("h.0.attn.c_attn.weight", "h.*.attn.c_attn.weight"),
        ("model.layers.60.self_attn.o_proj.weight", "model.layers.*.self_attn.o_proj.weight"),
        ("model.layers.61.self_attn.o_proj.weight", "model.layers.+.self_attn.o_proj.weight"),
        ("vision_tower.encoder.layers.61.fc1.weight", "vision_tower.encoder.layers.*.fc1.weight"),
        ("mtp.layers.0.self_attn.o_proj.weight", "+.layers.*.self_attn.o_proj.weight"),
        ("model.mtp_block.0.mlp.up_proj.weight", "model.+.*.mlp.up_proj.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_a_layer_beyond_the_decoders_has_a_sign_of_its_own(name: str, wanted: str) -> None:
    assert group_name(name, 61) == wanted


def test_of_a_config_the_architecture_is_kept() -> None:
    content: dict[str, Any] = {
        "architectures": ["X"],
        "model_type": "x",
        "hidden_size": 64,
        "head_dim": None,
        "bos_token_id": 1,
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_scaling": {"factor": 8.0},
        "text_config": {"num_hidden_layers": 2, "pad_token_id": 0},
        "quantization_config": {"quant_method": "x", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
    }
    assert architecture_config(content) == {
        "model_type": '"x"',
        "hidden_size": "64",
        "layer_types": '["full_attention","sliding_attention"]',
        "text_config.num_hidden_layers": "2",
        "quantization_config.quant_method": '"x"',
        "quantization_config.config_groups.group_0.weights.num_bits": "4",
    }


def adapter(number: int) -> AdapterFacts:
    return AdapterFacts(
        uri=f"hf://some-company/an-adapter-with-a-long-name-{number}@{number * 7919:040x}",
        digest=f"sha256:{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251F86C6A11D0C18E95:064x}"[:71],
        rank=16,
        alpha=32.0,
        scaling=2.0,
        target_modules=("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
        layers_adapted=560,
        dtype="F32",
        weight_bytes=167_832_240,
        kinds=("LoRA",),
        dynamic_objections=(),
    )


@pytest.mark.parametrize("name", ["deepseek-v3", "mixtral-8x7b", "llama-3.1-405b", "gpt-oss-120b", "gemma-3-27b"])
@pytest.mark.parametrize("adapters", [1, 4, 16])
def test_what_planning_reads_fits_a_termination_message(name: str, adapters: int) -> None:
    base = base_facts_of(name).model_copy(
        update={
            "uri": f"hf://some-company/{name}@0123456789abcdef0123456789abcdef01234567",
            "digest": "sha256:4d5be2a9d4b8ff3e6c1d5a1f0e7b6c9a8d3f2e1b0c9a8f7e6d5c4b3a29180716",
            "config": architecture_config(config(name)),
        }
    )
    facts = Facts(base=base, adapters=tuple(adapter(number) for number in range(adapters)))
    report = Report(step=Step.INSPECT, outcome=Outcome.DONE, reason="Inspected", message="fits " + name, facts=facts)
    message = report.termination_message()
    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    assert Report.model_validate_json(message) == report
    assert not json.loads(message)["message"].endswith("…")


def test_facts_of_an_older_inspection_are_still_read() -> None:
    older = base_facts_of("llama-3-8b").to_json()
    del older["tensors"], older["config"]
    facts = Facts.model_validate({"base": older, "adapters": []})
    assert facts.base.tensors is None
    assert facts.base.config is None
