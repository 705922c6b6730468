"""Bases whose config.json and weights disagree on ties: what transformers loads of the merge is PEFT's result."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING

from ftm_jobs.contract.config import TIED_AS_THEIR_LANGUAGE_MODEL
from ftm_jobs.contract.config_fields import TEXT_OBJECTS
from tests.merge.test_kinds import EMBEDDING, OUTPUT, TRAINED_BOTH, TRAINED_EMBEDDING, merged, same
from tests.models.families import Adapter, load, make_adapter, make_family, merged_by_peft
from tests.step_fixtures import Run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

BF16 = torch.bfloat16


def told_to_tie(base: Path) -> None:
    """config.json ties the two, but they differ."""
    edit(base, tie_word_embeddings=True)


def tied_and_both_there(base: Path) -> None:
    """Both are stored, and equal."""
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    edit(base, tie_word_embeddings=True)


def tied_in_its_language_model(base: Path) -> None:
    """transformers 4 said so of LLaVA and Qwen2-VL in text_config, and the default, false, beside it."""
    tensors = load_file(base / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if "lm_head" not in name}
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    text = json.loads((base / "config.json").read_text())["text_config"]
    edit(base, tie_word_embeddings=False, text_config={**text, "tie_word_embeddings": True})


def edit(base: Path, **fields: Any) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize("adapter", [EMBEDDING, OUTPUT, TRAINED_EMBEDDING, TRAINED_BOTH])
@pytest.mark.parametrize("family", [told_to_tie, tied_and_both_there, tied_in_its_language_model])
def test_ties_are_those_that_transformers_makes(family: Any, adapter: Adapter, tmp_path: Path, run: Run) -> None:
    name = "llava" if family is tied_in_its_language_model else "llama"
    base = make_family(tmp_path / "base", name, BF16)
    family(base)
    folder = make_adapter(tmp_path / "adapter", name, base, BF16, adapter)
    expected = merged_by_peft(name, base, BF16, [folder], [1.0], None)
    found = load(name, merged(run, tmp_path, base, [folder]))
    assert same(found, expected) == []
    assert found.config.tie_word_embeddings == expected.config.tie_word_embeddings


def test_the_families_that_are_tied_as_their_language_model_are_those_of_transformers() -> None:
    found = set()
    for family, kind in CONFIG_MAPPING.items():
        name = next((name for name in TEXT_OBJECTS if name in kind.sub_configs), None)
        if name is None:
            continue
        try:
            text = getattr(kind(), name).to_dict()
            config = kind.from_dict({"tie_word_embeddings": False, name: {**text, "tie_word_embeddings": True}})
        except (AttributeError, ImportError, ValueError, StrictDataclassClassValidationError):
            continue  # not to be made without more
        if config.tie_word_embeddings:
            found.add(family)
    assert found == TIED_AS_THEIR_LANGUAGE_MODEL
