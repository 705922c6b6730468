"""Bases with the config.json that public hubs have: inspected, and merged as PEFT merges them, element by element."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tests.models.hub_bases import HUB_BASES, load_base, make_base
from tests.places import Disk
from tests.step_fixtures import Run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def train(model: Any, lora: dict[str, Any], folder: Path) -> Any:
    """Returns the model with an adapter of random numbers, which is saved to a folder."""
    adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 10, **lora}))
    torch.manual_seed(2)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(str(folder))
    return adapted


def test_a_vocabulary_that_grew_is_said_where_the_base_left_it_to_its_class(tmp_path: Path, run: Run) -> None:
    content: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    llama: Any = LlamaForCausalLM
    model = llama(LlamaConfig(**content)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "base/config.json").write_text(json.dumps(content))
    model.resize_token_embeddings(32003, mean_resizing=False)
    lora = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    expected = train(model, lora, tmp_path / "adapter").merge_and_unload().state_dict()
    sources = "--base", (tmp_path / "base").as_uri(), "--adapter", (tmp_path / "adapter").as_uri()
    report = run("merge", *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert report.artifact, report.message
    merged = tmp_path / "artifacts" / report.artifact.key
    assert json.loads((merged / "config.json").read_text()) == content | {"vocab_size": 32003}
    found = llama.from_pretrained(merged, dtype=torch.bfloat16).state_dict()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []


@pytest.mark.parametrize("name", HUB_BASES)
def test_a_base_as_the_hub_has_it_is_inspected_and_merged(name: str, tmp_path: Path, run: Run) -> None:
    make_base(name, tmp_path / "base")
    adapted = train(load_base(name, tmp_path / "base"), HUB_BASES[name]["lora"], tmp_path / "adapter")
    sources = "--base", (tmp_path / "base").as_uri(), "--adapter", (tmp_path / "adapter").as_uri()

    report = run("inspect", *sources)
    assert report.facts, report.message
    said = adapted.config.get_text_config(decoder=True)
    assert (report.facts.base.hidden_size, report.facts.base.vocabulary_size) == (said.hidden_size, said.vocab_size)
    assert report.facts.base.attention_heads == getattr(said, "num_attention_heads", None)

    report = run("merge", *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert report.artifact, report.message
    merged = load_base(name, tmp_path / "artifacts" / report.artifact.key).state_dict()
    expected = adapted.merge_and_unload().state_dict()
    assert merged.keys() == expected.keys()
    assert [each for each, tensor in expected.items() if not torch.equal(merged[each], tensor)] == []
