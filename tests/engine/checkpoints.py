"""Models as transformers makes them, without their numbers: the names and shapes of what it saves."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.tensor_groups import tensor_groups
from ftm_operator.planning.model.architecture import Architecture
from tests.unit.operator.planning.catalogue import config, model_of

FAMILIES = [
    "llama-3.2-1b",
    "mistral-7b-v0.1",
    "qwen2-0.5b",
    "qwen3-0.6b",
    "phi-2",
    "phi-3-mini-4k",
    "gemma-2b",
    "gemma-2-2b",
    "gemma-3-1b",
    "falcon-40b",
    "starcoder2-15b",
    "opt-6.7b",
    "gpt2",
    "command-r-35b",
    "granite-4.0-h-1b",
    "lfm2-1.2b",
    "falcon-h1-7b",
    "nemotron-h-8b",
    "gemma-4-31b-text",
    "qwen3.5-27b-text",
    "glm-5",
]
DROPPED = ["bamba-9b"]
"""Families that vLLM served before 0.23, and this one does not."""


def checkpoint(name: str) -> Architecture:
    """The architecture with the tensors that transformers would save, in place of those worked out from the config."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config(name)))
        with torch.device("meta"):
            found = AutoConfig.from_pretrained(folder)
            model = AutoModelForCausalLM.from_config(found, torch_dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    saved = [Tensor(key, "BF16", tuple(value.shape), 0, 0) for key, value in model.named_parameters()]
    return replace(model_of(name), tensors=tensor_groups(saved, model_of(name).layers))
