"""Scales given to llm-compressor cancel, and its files hold the model's own tensors."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from ftm_jobs.quantize.awq.scalings import KNOWN, PROVEN
from tests.awq.environments import run_tasks
from tests.awq.families import FAMILIES, make
from tests.awq.models import tensors_of

pytestmark = pytest.mark.timeout(1800)

CANCELLED = 1e-9
"""Nats per token: what fp32 makes of sums in another order."""
GROUPED, HEADS = ", grouped heads", {"num_key_value_heads": 2}
SPLIT = ("glm4", "llama", "mixtral", "phi3")
RUINED = ("mixtral", "olmoe", "qwen2_moe")
"""By llm-compressor's own choice of what to scale."""
REFUSED = ("glm4", "mistral3")
"""By llm-compressor, left to its own choice."""
NORMS = {"input_layernorm", "post_attention_layernorm"}
SCALED = {
    "mixtral": NORMS | {"gate"},
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
    found = {family: make(family, folder / family, merged) for family in FAMILIES}
    grouped = {f"{family}{GROUPED}": make(family, folder / f"{family}-grouped", merged, **HEADS) for family in SPLIT}
    return found | grouped


@pytest.fixture(scope="module")
def padded(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("gemma3", tmp_path_factory.mktemp("padded") / "gemma3", merged, intermediate_size=248)


@pytest.fixture(scope="module")
def odd(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with tensors that no engine reads, one with a tensor that nobody knows, and one that lacks one."""
    folder = tmp_path_factory.mktemp("odd")
    model = make("llama", folder / "model", merged, tie_word_embeddings=True)
    tensors = tensors_of(model)
    up = tensors["model.layers.0.mlp.up_proj.weight"]
    spare = {
        "lm_head.weight": tensors["model.embed_tokens.weight"].clone(),
        "model.layers.0.self_attn.rotary_emb.inv_freq": up[0, :16].float(),
        "model.layers.2.mlp.up_proj.weight": up.clone(),
    }
    contents = {
        "spare": tensors | spare,
        "stray": tensors | {"model.layers.0.mlp.stray.weight": up.clone()},
        "missing": {name: each for name, each in tensors.items() if name != "model.layers.1.mlp.down_proj.weight"},
    }
    for name, content in contents.items():
        shutil.copytree(model, folder / name)
        save_file(content, folder / name / "model.safetensors", metadata={"format": "pt"})
    return {name: folder / name for name in contents}


@pytest.fixture(scope="module")
def answers(
    models: dict[str, Path],
    padded: Path,
    odd: dict[str, Path],
    texts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], dict[str, Any]]:
    out = tmp_path_factory.mktemp("made")
    chosen = random.Random(1)
    ids = [[chosen.randrange(10, 1000) for _ in range(96)] for _ in range(2)]
    scale = {"do": "scale", "ids": ids}
    settings = {"sequences": 1, "sequence_length": 128, "engine": "llm-compressor", "group_size": 32}
    tasks: dict[tuple[str, str], dict[str, Any]] = {}
    for family, model in models.items():
        tasks[family, "ours"] = {**scale, "model": str(model)}
    for family in (*RUINED, *REFUSED):
        tasks[family, "theirs"] = {**scale, "model": str(models[family]), "known": False}
    quantize = {"do": "quantize", "texts": texts, "settings": settings}
    for family in MADE:
        tasks[family, "made"] = {**quantize, "model": str(models[family]), "out": str(out / family)}
    for name, model in odd.items():
        tasks[name, "made"] = {**quantize, "model": str(model), "out": str(out / name)}
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


@pytest.mark.parametrize("family", [*FAMILIES, *(f"{family}{GROUPED}" for family in SPLIT)])
def test_scales_cancel(answers: dict[tuple[str, str], dict[str, Any]], family: str) -> None:
    assert abs(answers[family, "ours"]["divergence"]) < CANCELLED


def test_every_class_that_is_named_is_among_them(models: dict[str, Path]) -> None:
    configs = [json.loads((folder / "config.json").read_text()) for folder in models.values()]
    assert {config["architectures"][0] for config in configs} >= PROVEN | KNOWN.keys()


@pytest.mark.parametrize("family", RUINED)
def test_what_llm_compressor_would_scale_is_another_model(
    answers: dict[tuple[str, str], dict[str, Any]], family: str
) -> None:
    """The reason for choosing: once this fails, its patterns can be taken."""
    assert answers[family, "theirs"]["divergence"] > 0.01


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


def test_what_no_engine_reads_is_left_out_and_named(
    answers: dict[tuple[str, str], dict[str, Any]], odd: dict[str, Path]
) -> None:
    made = answers["spare", "made"]
    before, after = tensors_of(odd["spare"]).keys(), tensors_of(made["out"])
    packed = {name.removesuffix("_packed") for name in after if name.endswith(".weight_packed")}
    assert before - after.keys() - packed == {
        "lm_head.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.2.mlp.up_proj.weight",
    }
    assert any(note.endswith("for speculation alone: model.layers.2") for note in made["notes"])


@pytest.mark.parametrize(("name", "tensor"), [("stray", "0.mlp.stray"), ("missing", "1.mlp.down_proj")])
def test_a_model_of_other_tensors_than_transformers_expects_is_refused(
    answers: dict[tuple[str, str], dict[str, Any]], name: str, tensor: str
) -> None:
    """A missing tensor would be random numbers."""
    assert answers[name, "made"]["refused"] == (
        "transformers beside llm-compressor knows a model of other tensors "
        f'("model.layers.{tensor}.weight"): write quantization.method: GGUF or None'
    )


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
