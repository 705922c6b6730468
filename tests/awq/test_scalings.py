"""What llm-compressor is told to scale cancels, and its files hold the model's own tensors."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.awq_scalings import PROVEN
from tests.awq.environments import run_tasks
from tests.awq.families import FAMILIES, make
from tests.awq.models import tensors_of

pytestmark = pytest.mark.timeout(1800)

RUINED = ("mixtral", "olmoe", "qwen2_moe")
"""By llm-compressor's own choice of what to scale."""
REFUSED = ("glm4", "mistral3")
"""By llm-compressor, left to its own choice."""
NORMS = {"input_layernorm", "post_attention_layernorm"}
SCALED = {
    "mixtral": set(),
    "gemma3": {"pre_feedforward_layernorm"},
    "qwen2_5_vl": NORMS | {"v_proj"},
    "mistral3": NORMS,
}
"""Layers that are not quantized, or have a bias, and are scaled."""
MADE = tuple(SCALED)
PARTS = (".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape")
LINEAR = re.compile(r"\.layers\.\d+\..*(?:_proj|\.w[123])\.weight$")


@pytest.fixture(scope="module")
def models(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {family: make(family, folder / family, merged) for family in FAMILIES}


@pytest.fixture(scope="module")
def padded(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("gemma3", tmp_path_factory.mktemp("padded") / "gemma3", merged, intermediate_size=248)


@pytest.fixture(scope="module")
def answers(
    models: dict[str, Path], padded: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], dict[str, Any]]:
    out = tmp_path_factory.mktemp("made")
    chosen = random.Random(1)
    ids = [[chosen.randrange(10, 1000) for _ in range(96)] for _ in range(2)]
    scale = {"do": "scale", "ids": ids}
    settings = {"sequences": 1, "sequence_length": 128, "engine": "llm-compressor", "group_size": 32}
    tasks: dict[tuple[str, str], dict[str, Any]] = {}
    for family, model in models.items():
        tasks[family, "ours"] = {**scale, "model": str(model)}
        tasks[family, "rounded"] = {**scale, "model": str(model), "scaled": False}
    for family in (*RUINED, *REFUSED):
        tasks[family, "theirs"] = {**scale, "model": str(models[family]), "known": False}
    quantize = {"do": "quantize", "texts": texts, "settings": settings}
    for family in MADE:
        tasks[family, "made"] = {**quantize, "model": str(models[family]), "out": str(out / family)}
    parallel = {**settings, "tensor_parallel": [2]}
    tasks["gemma3", "padded"] = {
        **quantize,
        "model": str(padded),
        "out": str(out / "padded"),
        "settings": parallel,
    }
    found = run_tasks("compressor", list(tasks.values()))
    return {
        key: answer | {"out": Path(task.get("out", ""))}
        for (key, task), answer in zip(tasks.items(), found, strict=True)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_changes_no_more_than_rounding_does(
    answers: dict[tuple[str, str], dict[str, Any]], family: str
) -> None:
    assert answers[family, "ours"]["divergence"] < 2.5 * answers[family, "rounded"]["divergence"]


def test_every_class_that_is_called_proven_is_among_them(models: dict[str, Path]) -> None:
    configs = [json.loads((folder / "config.json").read_text()) for folder in models.values()]
    assert {config["architectures"][0] for config in configs} >= PROVEN


@pytest.mark.parametrize("family", RUINED)
def test_what_llm_compressor_would_scale_is_another_model(
    answers: dict[tuple[str, str], dict[str, Any]], family: str
) -> None:
    """The reason for choosing: once this fails, its patterns can be taken."""
    assert answers[family, "theirs"]["divergence"] > 4 * answers[family, "rounded"]["divergence"]


@pytest.mark.parametrize("family", REFUSED)
def test_what_llm_compressor_raises_is_a_sentence(answers: dict[tuple[str, str], dict[str, Any]], family: str) -> None:
    refused = answers[family, "theirs"]["refused"]
    assert refused.startswith("llm-compressor cannot work on the model (")
    assert refused.endswith("): write quantization.method: GGUF or None")


@pytest.mark.parametrize("family", MADE)
def test_its_files_hold_the_tensors_of_the_model_and_no_others(
    answers: dict[tuple[str, str], dict[str, Any]], models: dict[str, Path], family: str
) -> None:
    before, after = tensors_of(models[family]), tensors_of(answers[family, "made"]["out"])
    packed = {name.removesuffix("_packed") for name in after if name.endswith(".weight_packed")}
    assert {name for name in after if not name.endswith(PARTS)} | packed == before.keys()
    assert packed == {name for name in before if LINEAR.search(name) and not name.startswith(("vis", "multi"))}
    changed = {name for name in before.keys() - packed if not after[name].equal(before[name])}
    assert {name.split(".")[-2] for name in changed} <= SCALED[family]


def test_the_width_of_a_language_model_is_padded_where_its_config_says_it(
    answers: dict[tuple[str, str], dict[str, Any]], padded: Path
) -> None:
    out = answers["gemma3", "padded"]["out"]
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (padded, out))
    del after["quantization_config"]
    assert before["text_config"]["intermediate_size"] == 248
    before["text_config"]["intermediate_size"] = 256
    assert after == before
    scales = tensors_of(out)["language_model.model.layers.0.mlp.down_proj.weight_scale"]
    assert tuple(scales.shape) == (128, 256 // 32)
