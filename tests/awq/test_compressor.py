"""AWQ by llm-compressor: vLLM reads it, the model's own files stay, a padded MLP is written, nothing is downloaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.awq.environments import ask_vllm, run_tasks
from tests.awq.models import TOKENIZER_FILES, random_model, tensors_of

pytestmark = pytest.mark.timeout(1800)

QUICK = {"sequences": 1, "sequence_length": 128, "engine": "llm-compressor"}
TEXT = "The ferry left before sunrise because the tide would not wait, and nobody on the pier had slept."


@pytest.fixture(scope="module")
def made(
    small: Path, merged: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path, dict[str, Any]]]:
    """The first blocks of SmolLM2, and a random model whose MLP must be padded: both folders, and what was said."""
    out = tmp_path_factory.mktemp("compressor")
    padded = random_model(merged, out / "random", "qwen3")
    settings = {**QUICK, "group_size": 64}
    common = {"do": "quantize", "texts": texts}
    answers = run_tasks(
        "compressor",
        [
            {**common, "model": str(small), "out": str(out / "small-awq"), "settings": settings},
            {
                **common,
                "model": str(padded),
                "out": str(out / "random-awq"),
                "settings": {**settings, "tensor_parallel": [2]},
            },
        ],
    )
    return {
        "small": (small, out / "small-awq", answers[0]),
        "random": (padded, out / "random-awq", answers[1]),
    }


def test_vllm_reads_it_without_a_flag_and_it_says_what_the_model_says(
    made: dict[str, tuple[Path, Path, dict[str, Any]]],
) -> None:
    before, after = ask_vllm([(folder, ["Hello?"], TEXT) for folder in made["small"][:2]])
    assert (before["quantization"], after["quantization"]) == (None, "compressed-tensors")
    assert abs(after["nats"] - before["nats"]) < 0.2 * before["nats"]


@pytest.mark.parametrize("name", ["small", "random"])
def test_config_json_is_the_models_own_and_a_section_more(
    made: dict[str, tuple[Path, Path, dict[str, Any]]], name: str
) -> None:
    model, out, answer = made[name]
    before, after = ((folder / "config.json").read_text() for folder in (model, out))
    section = json.loads(after)["quantization_config"]
    assert (section["quant_method"], section["format"]) == ("compressed-tensors", "pack-quantized")
    written = json.dumps(section, indent=2).replace("\n", "\n  ")
    kept = after.replace(f',\n  "quantization_config": {written}', "")
    assert kept.replace('"intermediate_size": 256', '"intermediate_size": 248') == before
    assert answer["quantization"]["format"] == "compressed-tensors"
    for file in TOKENIZER_FILES:
        if (model / file).exists():
            assert (out / file).read_bytes() == (model / file).read_bytes()


def test_a_padded_mlp_is_written_padded(made: dict[str, tuple[Path, Path, dict[str, Any]]]) -> None:
    _, out, answer = made["random"]
    assert any("padded with zeros from 248 to 256" in note for note in answer["notes"])
    assert json.loads((out / "config.json").read_text())["intermediate_size"] == 256
    scales = tensors_of(out)["model.layers.0.mlp.down_proj.weight_scale"]
    assert tuple(scales.shape) == (128, 256 // 64)
