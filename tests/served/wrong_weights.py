"""Weights with which an engine says something else than what was verified."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.assets import Assets

SCALE = 2.0**12
"""SmolLM2's feed-forward layers have hidden values of 100 and more: times this, they are beyond float16's 65,504."""


def loud(assets: Assets, folder: Path) -> Assets:
    """Writes a base and an adapter whose feed-forward layers compute with values that are SCALE times as large.

    What goes into them is multiplied, and what comes out is divided by a power of two. So in bfloat16 and float32 each
    number has the bits that it had, but for its exponent, and the model says the same.
    """
    base, adapter = folder / "base", folder / "adapter"
    for source, copy in ((assets.base, base), (assets.adapter, adapter)):
        shutil.copytree(source, copy)
        for path in copy.glob("*.safetensors"):
            weights = load_file(path)
            scaled = {name: weight * _factor(name) for name, weight in weights.items()}
            save_file(scaled, path, metadata={"format": "pt"})
    assert "up_proj" in json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    return Assets(base, adapter)


def _factor(name: str) -> float:
    if ".up_proj." in name:
        return 1.0 if ".lora_A." in name else SCALE
    if ".down_proj." in name:
        return 1.0 if ".lora_A." in name else 1 / SCALE
    return 1.0
