"""One adapter under every name that people's files have for it: merged to the same bytes, or as PEFT merges it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from tests.models.families import Adapter, make_adapter, make_family
from tests.places import Disk
from tests.step_fixtures import Run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

WEIGHTS = "adapter_model.safetensors"
HEAD = "base_model.model."
ATTENTION: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"]}
LANGUAGE = {"target_modules": r".*language_model.*(q_proj|v_proj)"}
NAMES: dict[str, tuple[str, dict[str, Any], Callable[[str], str]]] = {
    "the adapter's name": ("llama", ATTENTION, lambda name: name.replace(".weight", ".default.weight")),
    "torch.compile": ("llama", ATTENTION, lambda name: name.replace(HEAD, f"{HEAD}_orig_mod.")),
    "FSDP and checkpointing": (
        "llama",
        ATTENTION,
        lambda name: name.replace(".self_attn.", "._fsdp_wrapped_module._checkpoint_wrapped_module.self_attn."),
    ),
    "DistributedDataParallel": ("llama", ATTENTION, lambda name: f"module.{name}"),
    "no head": ("llama", ATTENTION, lambda name: name.replace(f"{HEAD}model.", HEAD)),
    "transformers 4.50": (
        "gemma3",
        ATTENTION,
        lambda name: name.replace("model.language_model.layers", "language_model.model.layers").replace(
            "model.model.vision_tower", "model.vision_tower.vision_model"
        ),
    ),
    "transformers 4.52": ("gemma3", ATTENTION, lambda name: name.replace("vision_tower", "vision_tower.vision_model")),
    "a vision model without its head": ("gemma3", ATTENTION, lambda name: name.replace(f"{HEAD}model.", HEAD)),
    "the language model alone": ("gemma3", LANGUAGE, lambda name: name.replace("model.language_model.", "model.")),
}


@pytest.mark.parametrize("kind", NAMES)
def test_an_adapter_is_the_same_under_each_of_its_names(kind: str, tmp_path: Path, run: Run) -> None:
    family, lora, renamed = NAMES[kind]
    base = make_family(tmp_path / "base", family, torch.bfloat16)
    adapter = make_adapter(tmp_path / "adapter", family, base, torch.bfloat16, Adapter(lora))
    shutil.copytree(adapter, tmp_path / "other")
    tensors = load_file(adapter / WEIGHTS)
    other = {renamed(name): tensor for name, tensor in tensors.items()}
    assert other.keys().isdisjoint(tensors) or kind == "transformers 4.52"
    assert other.keys() != tensors.keys()
    save_file(other, tmp_path / "other" / WEIGHTS)
    expected, found = (weights(run, tmp_path / name, base, tmp_path / name) for name in ("adapter", "other"))
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []
    changed = [name for name, tensor in load_file(base / "model.safetensors").items() if not tensor.equal(found[name])]
    assert len(changed) == len(tensors) // 2


def test_an_adapter_that_was_trained_on_a_model_without_its_head_is_merged_as_peft_does(
    tmp_path: Path, run: Run
) -> None:
    base = make_family(tmp_path / "base", "qwen2", torch.bfloat16)
    model: Any = get_peft_model(AutoModel.from_pretrained(base, dtype="auto"), LoraConfig(r=4, **ATTENTION))
    for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(tmp_path / "adapter"))
    artifact = merged(run, tmp_path, base, tmp_path / "adapter")
    found = AutoModel.from_pretrained(artifact, dtype="auto").state_dict()
    expected = model.merge_and_unload().state_dict()
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []


def merged(run: Run, folder: Path, base: Path, adapter: Path) -> Path:
    report = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(folder).artifacts)
    assert report.artifact, report.message
    return folder / "artifacts" / report.artifact.key


def weights(run: Run, folder: Path, base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(merged(run, folder, base, adapter) / "model.safetensors")
