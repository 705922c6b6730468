"""Layers that an adapter promises and lacks are named, by PEFT's own rule, and nothing else is."""

from typing import Any

import pytest

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.match import match
from ftm_jobs.adapters.promised_layers import missing_layers
from ftm_jobs.checkpoint.adapter_config import parse_adapter_config
from ftm_jobs.contract.config import read_config
from tests.unit.jobs.files import ADAPTER_CONFIG, LLAMA_CONFIG, Shapes, header

FILE = "s3://models/a/adapter_model.safetensors"
LAYERS = 3
Q, K, GATE = "self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj"


def names(prefix: str = "model") -> list[str]:
    return [f"{prefix}.layers.{number}.{module}" for number in range(LAYERS) for module in (Q, K, GATE)]


def note(adapted: list[str], stored: list[str] | None = None, tied: bool = False, **config: Any) -> str | None:
    """The note on an adapter with these layers, to a base with these matrices."""
    content = ADAPTER_CONFIG | {"target_modules": ["q_proj", "k_proj"]} | config.pop("adapter", {})
    modules = [*(stored or names()), "model.embed_tokens", "lm_head"]
    base: Shapes = {f"{name}.weight": ("BF16", (8, 8)) for name in modules}
    shapes: Shapes = {
        f"base_model.model.{name}.lora_{part}.weight": ("F32", shape)
        for name in adapted
        for part, shape in (("A", (2, 8)), ("B", (8, 2)))
    }
    read = LLAMA_CONFIG | {"num_hidden_layers": LAYERS} | config
    tensors = BaseTensors("s3://models/base", read["model_type"], tied, [header(base)], config=read)
    applied = AppliedAdapter(0, FILE, parse_adapter_config("adapter_config.json", content), 1.0)
    updates = match(tensors, applied, header(shapes))
    return missing_layers(tensors, read_config(read), applied, content, updates)


def test_a_whole_adapter_gives_no_note() -> None:
    assert note([name for name in names() if "gate" not in name]) is None
    assert note(names(), adapter={"target_modules": "all-linear"}) is None


def test_layers_and_target_modules_that_are_missing_are_named() -> None:
    assert note([f"model.layers.0.{Q}", f"model.layers.2.{Q}"]) == (
        f"{FILE} lacks 4 of the layers that target_modules in adapter_config.json promises: model.layers.0.{K}, "
        f"model.layers.1.{Q}, model.layers.1.{K}, model.layers.2.{K}; they stay as the base has them"
    )


def test_names_in_memory_are_told_where_they_differ_from_those_on_disk() -> None:
    stored = names("language_model.model")
    llava: dict[str, Any] = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": LLAMA_CONFIG | {"num_hidden_layers": LAYERS},
    }
    found = note([f"model.language_model.layers.0.{Q}"], stored, adapter={"target_modules": ["q_proj"]}, **llava)
    assert found
    assert f"promises: model.language_model.layers.1.{Q}, model.language_model.layers.2.{Q};" in found


@pytest.mark.parametrize(
    ("adapter", "missing"),
    [
        ({"target_modules": "all-linear"}, [f"model.layers.{number}.{Q}" for number in (1, 2)]),
        ({"target_modules": r".*\.(1|0)\.self_attn\.q_proj"}, [f"model.layers.1.{Q}"]),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}, [f"model.layers.2.{Q}"]),
        ({"target_modules": ["q_proj"], "layers_to_transform": 0}, []),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "blocks"}, []),
        ({"target_modules": ["q_proj"], "exclude_modules": ["layers.1.self_attn.q_proj"]}, [f"model.layers.2.{Q}"]),
        ({"target_modules": ["q_proj"], "exclude_modules": r".*\.[12]\..*"}, []),
        ({"target_modules": ["q_proj", f"model.layers.1.{K}"], "layers_to_transform": [0]}, [f"model.layers.1.{K}"]),
        ({"target_modules": "("}, []),
    ],
)
def test_fields_that_narrow_the_targets_are_heeded(adapter: dict[str, Any], missing: list[str]) -> None:
    found = note([f"model.layers.0.{Q}"], adapter=adapter)
    assert (found.partition("promises: ")[2].partition(";")[0].split(", ") if found else []) == missing


def test_an_output_layer_that_is_named_is_missed_unless_it_is_tied() -> None:
    adapted = [name for name in names() if name.endswith(Q)]
    adapter = {"target_modules": ["q_proj", "lm_head"]}
    found = note(adapted, adapter=adapter)
    assert found
    assert "promises: lm_head;" in found
    assert note(adapted, tied=True, adapter=adapter) is None


@pytest.mark.parametrize(
    ("module", "config"),
    [
        ("model.layers.1.mlp.experts.0.q_proj", {}),
        ("model.layers.3.self_attn.q_proj", {}),
        ("vision_tower.encoder.layers.0.self_attn.q_proj", {}),
        (f"model.layers.2.{K}", {"num_kv_shared_layers": 1}),
    ],
    ids=["an expert", "beyond the decoder", "another stack", "shared keys"],
)
def test_what_cannot_be_known_is_not_said(module: str, config: dict[str, Any]) -> None:
    adapted = [name for name in names() if "gate" not in name and name != module]
    assert note(adapted, [*names(), module], **config) is None
