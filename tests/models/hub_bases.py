"""Bases as public hubs have them: config.json with a hub's own field names, in small numbers, and tiny weights.

What a hub's config.json leaves out is left out of hub_bases.yaml too, so that transformers' defaults fill it in.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from transformers import AutoConfig

HUB_BASES: Mapping[str, Mapping[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


def load_base(name: str, folder: Path) -> Any:
    return _loader(name).from_pretrained(folder, dtype="auto")


def make_base(name: str, folder: Path) -> None:
    """Writes the hub's config.json, and weights of the model that transformers makes of it."""
    base = HUB_BASES[name]
    folder.mkdir()
    text = json.dumps(base["config"], indent=2)
    (folder / "config.json").write_text(text)
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(folder)
    model = _loader(name).from_config(config, dtype=config.dtype or torch.bfloat16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stored = getattr(model, base["prefix"]) if "prefix" in base else model
    stored.save_pretrained(folder)
    (folder / "config.json").write_text(text)


def _loader(name: str) -> Any:
    return getattr(transformers, HUB_BASES[name].get("auto", "AutoModelForCausalLM"))
