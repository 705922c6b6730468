"""AWQ's row of `make bench-quantize`: AutoAWQ in its own environment, and what its weights lose against 16 bits.

Divergence and perplexity are of our own forward in fp32 from the dequantized weights, over every position of the same
text that llama-perplexity is given, cut to as many tokens; llama-perplexity counts the second half of each piece.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from safetensors import safe_open

from ftm_jobs.stores.source import parse_source
from ftm_jobs.verify.figures.divergence import Divergence, total
from ftm_jobs.verify.figures.model_names import MERGED, QUANTIZED
from ftm_jobs.verify.model_folder import open_model_folder
from ftm_jobs.verify.models.groups import awq_groups, merged_group
from ftm_jobs.verify.models.hf_tokenizer import HfTokenizer
from ftm_jobs.verify.models.layerwise import compare
from ftm_operator.planning.model.quantization import Scheme

SAMPLES = 4
"""Blocks of calibration text: the search takes some twenty seconds for each on two cores."""


@dataclass(frozen=True)
class Stored:
    """Returns the bytes of an AWQ model's weights."""

    elements: int
    file_bytes: int
    format_bytes: int


def calibration(folder: Path) -> Path:
    """The first samples of the bundled text."""
    path = folder / "calibration.jsonl"
    lines = files("ftm_jobs").joinpath("data/calibration.jsonl").read_text("utf-8").splitlines()
    path.write_text("\n".join(lines[:SAMPLES]) + "\n", "utf-8")
    return path


def stored(model: Path) -> Stored:
    """Packed weights by the format's own arithmetic, the others as they are."""
    group = int(json.loads((model / "config.json").read_text())["quantization_config"]["group_size"])
    scheme = Scheme("awq", 4, group, zero_point=True)
    elements = size = 0
    paths = sorted(model.glob("*.safetensors"))
    for path in paths:
        with safe_open(path, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                tensor = opened.get_tensor(name)
                if name.endswith(".qweight"):
                    inputs, outputs = tensor.shape[0], tensor.shape[1] * 8
                    elements += inputs * outputs
                    size += scheme.linear_bytes(outputs, inputs)
                elif not name.endswith((".scales", ".qzeros")):
                    elements += tensor.numel()
                    size += tensor.nbytes
    return Stored(elements, sum(path.stat().st_size for path in paths), size)


def losses(model: Path, quantized: Path, text: str, tokens: int, piece: int, work: Path) -> Divergence:
    """Returns the divergence of the quantized model from the one that it was made of."""
    merged = open_model_folder(parse_source(model.as_uri()), _new(work / "merged-small"))
    packed = open_model_folder(parse_source(quantized.as_uri()), _new(work / "packed-small"))
    group, other = merged_group(merged), awq_groups(merged, packed).groups[1]
    prompts = _pieces(HfTokenizer(model).encode_text(text)[:tokens], piece)
    reference = group.run(prompts, lambda _: None)[MERGED]
    measured = total(compare(reference, other.run(prompts, lambda _: None)[QUANTIZED]))
    for each in (group, other):
        each.shared.close()
    return measured


def _pieces(tokens: Sequence[int], length: int) -> list[Sequence[int]]:
    return [tokens[start : start + length] for start in range(0, len(tokens), length)]


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
