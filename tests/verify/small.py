"""The real base and adapter of the test assets, cut to their first layers: real numbers at a fifth of the time."""

import json
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.assets import Assets

LAYERS = 6
_LAYER = re.compile(r"\.layers\.(\d+)\.")


def cut(assets: Assets, folder: Path) -> Assets:
    made = Assets(folder / "base", folder / "adapter")
    for before, after, weights in (
        (assets.base, made.base, "model.safetensors"),
        (assets.adapter, made.adapter, "adapter_model.safetensors"),
    ):
        shutil.copytree(before, after, ignore=shutil.ignore_patterns("*.safetensors"))
        kept = {
            name: tensor
            for name, tensor in load_file(before / weights).items()
            if not (found := _LAYER.search(name)) or int(found[1]) < LAYERS
        }
        save_file(kept, after / weights, metadata={"format": "pt"})
    config = json.loads((made.base / "config.json").read_text()) | {"num_hidden_layers": LAYERS}
    (made.base / "config.json").write_text(json.dumps(config))
    return made
