"""Two real ranks: vLLM starts a small model with --tensor-parallel-size 2, and each process holds what is predicted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm import LLM, SamplingParams
from vllm.config import set_current_vllm_config
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype

from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.planning.memory.weights import rank_weights
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.config_facts import facts_of_config
from ftm_operator.planning.model.quantization import NONE
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.outcome import Sizing
from ftm_operator.planning.sizing.request import Request

SMALL: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
"""One key-value head, which both ranks hold, and experts, which are divided."""


def weight_bytes(worker: Any) -> int:
    """Returns the bytes of this rank's model, made once more: the CPU's kernels put weights they repack elsewhere."""
    config = worker.vllm_config
    config.compilation_config.static_forward_context.clear()
    with set_current_vllm_config(config), set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
        model = initialize_model(vllm_config=config)
    return sum(each.numel() * each.element_size() for each in model.parameters())


def test_a_plan_that_is_accepted_starts_and_each_rank_holds_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # to send the question below to the ranks
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    model = architecture(facts_of_config("file:///model", "sha256:0", SMALL))
    found = size(model, Request(256, tensor_parallel=2), declared_classes([{"name": "A10G", "perNode": 2}]))
    assert isinstance(found, Sizing)
    engine = LLM(
        str(tmp_path),
        skip_tokenizer_init=True,
        tensor_parallel_size=found.option.layout.tensor_parallel,
        max_model_len=found.option.context,
        dtype="bfloat16",
        load_format="dummy",
        enforce_eager=True,
        seed=0,
    )
    try:
        predicted = rank_weights(model, 2, 1, "bfloat16", NONE).total
        (answer,) = engine.generate({"prompt_token_ids": [1, 2, 3]}, SamplingParams(max_tokens=4, detokenize=False))
        assert len(answer.outputs[0].token_ids) == 4
        assert engine.collective_rpc(weight_bytes) == [predicted, predicted]
    finally:
        engine.llm_engine.engine_core.shutdown()
