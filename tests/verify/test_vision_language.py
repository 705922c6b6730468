"""A vision-language model: no text runs through its encoder, which is compared with the base's all the same."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.assets import Assets, prepare
from tests.models.families import FAMILIES, Adapter, make_adapter
from tests.verify.conftest import Merged, Run, merged
from tests.verify.test_traps import check, failed

ENCODER = "vision_tower.encoder.layers.1.mlp.fc2.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Merged:
    """A small random LLaVA with a real tokenizer, and an adapter of its language model."""
    folder = tmp_path_factory.mktemp("vision")
    found = FAMILIES["llava"]
    text = found["text_config"] | {"vocab_size": 49152, "max_position_embeddings": 2048, "hidden_size": 64}
    torch.manual_seed(1)
    auto: Any = AutoModelForImageTextToText
    base = auto.from_config(AutoConfig.for_model(**{**found, "text_config": text}))
    base.to(torch.bfloat16).save_pretrained(folder / "base")
    for path in prepare().base.iterdir():
        if "token" in path.name or "chat" in path.name:
            shutil.copy(path, folder / "base")
    lora = Adapter({"target_modules": r".*language_model.*\.(q_proj|v_proj)"})
    adapter = make_adapter(folder / "adapter", "llava", folder / "base", torch.bfloat16, lora)
    return merged(Assets(folder / "base", adapter), folder / "store")


def test_every_tensor_is_compared_and_a_sound_merge_passes(verify: Run, model: Merged) -> None:
    report = verify(model)
    assert not failed(report), report.message
    names = load_file(model.model / "model.safetensors").keys()
    assert ENCODER in names
    assert check(report, "MergedWeights").value == 0


def test_an_encoder_that_changed_is_caught(verify: Run, model: Merged, tmp_path: Path) -> None:
    copy = shutil.copytree(model.model, tmp_path / "changed", ignore=shutil.ignore_patterns("manifest.json"))
    tensors = load_file(copy / "model.safetensors")
    save_file(tensors | {ENCODER: tensors[ENCODER] * 1.01}, copy / "model.safetensors", metadata={"format": "pt"})
    report = verify(model, model=copy)
    assert failed(report) == {"MergedWeights"}
    assert check(report, "MergedWeights").value == 1
    assert ENCODER in report.message
