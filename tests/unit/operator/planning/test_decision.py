"""The decision tree: each branch, its reason, and what is refused with what would work."""

from typing import Any

import pytest

from ftm_jobs.contract.facts import TensorGroup
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.decision import Decision, decide
from ftm_operator.planning.rules.rejection import Rejection
from tests.unit.operator.objects import base_facts, resource

MISTRAL = {"model_type": "mistral", "hidden_size": 4096, "attention_heads": 32, "head_size": 128}


def decided(size: int = 1, base: dict[str, Any] | None = None, **spec: Any) -> Decision | Rejection:
    return decide(parse(FineTunedModel, resource(**spec)).spec, base_facts(**(base or {})), size)


@pytest.mark.parametrize(
    ("spec", "engine", "quantization", "reason"),
    [
        ({}, "vLLM", "None", "not quantized: spec.objective is Quality"),
        ({"objective": "Throughput"}, "vLLM", "AWQ", "AWQ: spec.objective is Throughput"),
        ({"quantization": {"method": "None"}}, "vLLM", "None", "not quantized: from spec.quantization.method"),
        ({"quantization": {"method": "AWQ"}}, "vLLM", "AWQ", "AWQ: from spec.quantization.method"),
        (
            {"quantization": {"method": "GGUF"}},
            "LlamaCpp",
            "GGUF Q4_K_M",
            "llama.cpp on CPUs: spec.quantization.method is GGUF, which vLLM does not read",
        ),
        ({"serving": {"device": "CPU"}}, "LlamaCpp", "GGUF Q4_K_M", "llama.cpp on CPUs: spec.serving.device is CPU"),
        ({"serving": {"engine": "LlamaCpp"}}, "LlamaCpp", "GGUF Q4_K_M", "llama.cpp on CPUs: from spec.serving.engine"),
        (
            {"serving": {"device": "CPU"}, "objective": "Throughput", "quantization": {"gguf": {"type": "Q8_0"}}},
            "LlamaCpp",
            "GGUF Q8_0",
            "GGUF Q8_0: from spec.quantization.gguf.type",
        ),
    ],
)
def test_each_branch_has_its_reason(spec: dict[str, Any], engine: str, quantization: str, reason: str) -> None:
    found = decided(**spec)
    assert isinstance(found, Decision)
    assert (found.engine, found.quantization) == (engine, quantization)
    assert reason in found.reasons


@pytest.mark.parametrize(
    ("base", "size", "group", "why"),
    [
        (MISTRAL, 1, 128, "every width divides by it"),
        (MISTRAL, 8, 128, "every width divides by it"),
        (MISTRAL | {"attention_heads": 24}, 16, 64, "over 16 accelerators is no multiple of 128"),
        ({}, 1, 64, "the residual width 576 is no multiple of 128"),
        ({"hidden_size": 96, "attention_heads": 3, "head_size": 32}, 1, 32, "the residual width 96 is no multiple"),
    ],
)
def test_the_largest_group_that_every_rank_can_hold(base: dict[str, Any], size: int, group: int, why: str) -> None:
    found = decided(size, base, quantization={"method": "AWQ"})
    assert isinstance(found, Decision)
    assert found.awq
    assert found.awq.group_size == group
    assert any(reason.startswith(f"groups of {group}") and why in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("model_type", "asked", "engine"),
    [
        ("llama", "Auto", "autoawq"),
        ("gemma3_text", "Auto", "llm-compressor"),
        ("llama", "LLMCompressor", "llm-compressor"),
        ("llama", "AutoAWQ", "autoawq"),
    ],
)
def test_the_engine_that_knows_the_architecture(model_type: str, asked: str, engine: str) -> None:
    found = decided(base={"model_type": model_type}, quantization={"method": "AWQ", "awq": {"engine": asked}})
    assert isinstance(found, Decision)
    assert found.awq
    assert found.awq.engine == engine


@pytest.mark.parametrize(
    ("base", "awq", "rule", "sentence"),
    [
        (
            {},
            {"groupSize": 128},
            "AWQGroups",
            "AWQ in groups of 128: the residual width 576 is no multiple of 128; write groupSize 64",
        ),
        ({"hidden_size": 100}, {}, "AWQGroups", "write quantization.method GGUF, or None"),
        ({"model_type": "gemma3_text"}, {"engine": "AutoAWQ"}, "AWQEngine", "write awq.engine LLMCompressor or Auto"),
        (
            {
                "tensors": (
                    TensorGroup(name="model.layers.*.mlp.experts.down_proj", shape=(4, 64, 32), dtype="BF16", count=9),
                )
            },
            {},
            "AWQExperts",
            "experts.down_proj holds the matrices of all experts of a layer, which AWQ's engines do not take",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(
    base: dict[str, Any], awq: dict[str, Any], rule: str, sentence: str
) -> None:
    found = decided(base=base, quantization={"method": "AWQ", "awq": awq})
    assert isinstance(found, Rejection)
    assert found.rule == rule
    assert sentence in found.reason


def test_auto_falls_back_where_awq_cannot_be_and_says_why() -> None:
    found = decided(base={"hidden_size": 100}, objective="Throughput")
    assert isinstance(found, Decision)
    assert found.quantization == "None"
    assert "not quantized, though spec.objective is Throughput: AWQ in groups of 32" in found.reasons[-1]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"quantization": {"method": "GGUF"}, "serving": {"engine": "vLLM"}}, "vLLM does not read GGUF"),
        ({"quantization": {"method": "AWQ"}, "serving": {"engine": "LlamaCpp"}}, "llama.cpp reads GGUF alone"),
        ({"quantization": {"method": "None"}, "serving": {"engine": "LlamaCpp"}}, "with gguf.type BF16"),
        ({"serving": {"engine": "LlamaCpp", "device": "GPU"}}, "llama.cpp is served on CPUs here"),
        ({"quantization": {"method": "GGUF"}, "serving": {"device": "GPU"}}, "llama.cpp is served on CPUs here"),
        ({"serving": {"engine": "vLLM", "device": "CPU"}}, "vLLM is served on GPUs here"),
        ({"quantization": {"method": "AWQ"}, "serving": {"device": "CPU"}}, "vLLM is served on GPUs here"),
        ({"quantization": {"method": "GGUF", "gguf": {"importanceMatrix": True}}}, "set calibration.uri"),
        ({"quantization": {"method": "GGUF", "gguf": {"type": "Q9"}}}, "spec.quantization.gguf.type"),
    ],
)
def test_what_no_model_could_have_is_refused_before_anything_is_read(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse(FineTunedModel, resource(**spec))
    assert sentence in str(caught.value)
