"""Generated models with SmolLM2's tokenizer, of the shapes that a test wants."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from tests import assets

VOCABULARY = 49152
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make_model(folder: Path, config: PretrainedConfig, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Random weights; the vocabulary is SmolLM2's."""
    torch.manual_seed(7)
    config.vocab_size = VOCABULARY
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.to(dtype).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(assets.prepare().base / name, folder)
    return folder
