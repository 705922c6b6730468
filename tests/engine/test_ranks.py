"""Two real ranks: vLLM starts a small model with --tensor-parallel-size 2, and each process holds what is predicted."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from vllm import LLM, SamplingParams

from ftm_operator.planning.accelerators import declared_classes
from ftm_operator.planning.architecture import architecture
from ftm_operator.planning.config_facts import facts_of_config
from ftm_operator.planning.quantization import NONE
from ftm_operator.planning.sizing import Request, Sizing, size
from ftm_operator.planning.weights import rank_weights

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
MODELS: dict[str, dict[str, Any]] = {
    "one key-value head, replicated": {
        **SMALL,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "tie_word_embeddings": True,
    },
    "experts": {
        **SMALL,
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_key_value_heads": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
}


def weight_bytes(model: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_that_is_accepted_starts_and_each_rank_holds_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # to send the question below to the ranks
    (tmp_path / "config.json").write_text(json.dumps(MODELS[name]))
    model = architecture(facts_of_config("file:///model", "sha256:0", MODELS[name]))
    found = size(model, Request(256, tensor_parallel=2), declared_classes([{"name": "A10G", "perNode": 2}]))
    assert isinstance(found, Sizing)
    engine = LLM(
        str(tmp_path),
        skip_tokenizer_init=True,
        tensor_parallel_size=found.option.layout.tensor_parallel,
        max_model_len=found.option.context,
        dtype=found.option.dtype,
        load_format="dummy",
        enforce_eager=True,
        seed=0,
    )
    try:
        predicted = rank_weights(model, 2, 1, "bfloat16", NONE).total
        assert engine.apply_model(weight_bytes) == [predicted, predicted]
        (answer,) = engine.generate({"prompt_token_ids": [1, 2, 3]}, SamplingParams(max_tokens=4, detokenize=False))
        assert len(answer.outputs[0].token_ids) == 4
    finally:
        engine.llm_engine.engine_core.shutdown()
