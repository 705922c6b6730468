"""AWQ by llm-compressor: newer architectures, in the compressed-tensors format that vLLM reads as well.

Its search runs block by block on an accelerator; the model itself is in main memory. Three things are mended.

- Without an accelerator it pins memory all the same, which raises: pinning is left out there.
- transformers saves config.json anew. Only its quantization_config is taken; the caller edits the model's own file.
- An MLP that must be padded is padded in a copy of the weight files, which is what is loaded.

Nothing is downloaded: the model is a folder, the calibration text is token numbers.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1")

import torch
from datasets import Dataset, disable_progress_bars
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from loguru import logger
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from ftm_jobs.awq_layout import Layout
from ftm_jobs.awq_weights import WeightFiles, Weights
from ftm_jobs.configs import CONFIG_FILE
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.output import OutputTensor

BITS = 4
IGNORED = ["lm_head", r"re:.*\.gate$", r"re:.*router$", r"re:.*shared_expert_gate$"]


def run(
    model: Path,
    out: Path,
    config: Mapping[str, Any],
    files: Sequence[str],
    layout: Layout,
    blocks: list[list[int]],
    *,
    symmetric: bool,
) -> dict[str, Any]:
    """Write the quantized weight files to `out`; returns the quantization_config that belongs to them.

    Raises InvalidInput (UnsupportedModel) for an architecture that transformers or llm-compressor does not know.
    """
    _quieten()
    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_arguments, **_named: None
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        folder = Path(temporary)
        source = _padded_copy(model, folder / "padded", config, files, layout) if layout.padded else model
        loaded = _load(source)
        oneshot(
            model=loaded,
            dataset=Dataset.from_dict({"input_ids": blocks, "attention_mask": [[1] * len(ids) for ids in blocks]}),
            recipe=_recipe(layout.group_size, symmetric=symmetric),
            num_calibration_samples=len(blocks),
            max_seq_length=max(map(len, blocks)),
            shuffle_calibration_samples=False,
        )
        saved = folder / "saved"
        loaded.save_pretrained(saved, save_compressed=True)
        for path in sorted(saved.glob("*.safetensors*")):
            shutil.move(path, out / path.name)
            (out / path.name).chmod(0o644)
        found: dict[str, Any] = json.loads((saved / CONFIG_FILE).read_text())["quantization_config"]
    return found


def _quieten() -> None:
    """A Job's log has lines, not bars; what the libraries warn of stays."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING", format="{message}")
    disable_progress_bars()
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)


def _load(source: Path) -> Any:
    causal: Any = AutoModelForCausalLM
    try:
        return causal.from_pretrained(source, dtype="auto", trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"transformers beside llm-compressor cannot load the model ({text}): write method: GGUF or None",
        ) from error


def _recipe(group_size: int, *, symmetric: bool) -> list[Any]:
    arguments = {
        "num_bits": BITS,
        "type": "int",
        "symmetric": symmetric,
        "strategy": "group",
        "group_size": group_size,
        "dynamic": False,
    }
    groups = {"group_0": {"targets": ["Linear"], "weights": arguments}}
    return [
        AWQModifier(duo_scaling="both"),
        QuantizationModifier(config_groups=groups, ignore=IGNORED),
    ]


def _padded_copy(model: Path, folder: Path, config: Mapping[str, Any], files: Sequence[str], layout: Layout) -> Path:
    folder.mkdir()
    weights = Weights(model, files, layout)
    planned = [OutputTensor(name, weights.dtype(name), weights.shape(name), None) for name in weights.names()]
    with WeightFiles(folder, planned) as written:
        for name in weights.names():
            written.write({name: weights.read(name)})
    (folder / CONFIG_FILE).write_text(json.dumps(dict(config)))
    return folder
