"""Adapters of classifiers on language models: what transformers loads as a classifier is PEFT's result, bit for bit."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.models.auto import modeling_auto

from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.contract.keys import ClassifierTask
from ftm_jobs.merge.classifier import FAMILIES, class_of
from tests.merge.test_kinds import merged, same
from tests.models.families import make_family
from tests.places import Disk
from tests.step_fixtures import Run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

BF16 = torch.bfloat16
CLASSES: dict[str, Any] = {"SEQ_CLS": AutoModelForSequenceClassification, "TOKEN_CLS": AutoModelForTokenClassification}
MAPPINGS = {
    ClassifierTask.SEQUENCE: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    ClassifierTask.TOKEN: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
}


def make_classifier(folder: Path, base: Path, task: str, labels: int, **lora: Any) -> None:
    model = get_peft_model(
        CLASSES[task].from_pretrained(base, num_labels=labels, dtype=BF16),
        LoraConfig(**{"r": 4, "lora_alpha": 10, "task_type": task, **lora}),
    )
    torch.manual_seed(4)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(folder))


def merged_by_peft(base: Path, adapter: Path, task: str, labels: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = PeftModel.from_pretrained(
            CLASSES[task].from_pretrained(base, num_labels=labels, dtype=BF16), adapter
        )
        return model.merge_and_unload()


@pytest.mark.parametrize(
    ("family", "task", "labels", "lora"),
    [
        ("llama", "SEQ_CLS", 3, {"target_modules": ["q_proj", "embed_tokens"]}),
        ("llama tied", "SEQ_CLS", 1, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
        ("qwen2", "TOKEN_CLS", 5, {"target_modules": ["q_proj"], "use_dora": True}),
        ("gpt2", "SEQ_CLS", 2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("gpt2", "TOKEN_CLS", 2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ],
)
def test_a_classifier_is_peft_s_and_loads_as_one(
    family: str, task: str, labels: int, lora: dict[str, Any], tmp_path: Path, run: Run
) -> None:
    base, adapter = make_family(tmp_path / "base", family, BF16, shard="10KB"), tmp_path / "adapter"
    make_classifier(adapter, base, task, labels, **lora)
    out = merged(run, tmp_path, base, [adapter], "--task", task)
    expected = merged_by_peft(base, adapter, task, labels)
    found, info = CLASSES[task].from_pretrained(out, dtype="auto", output_loading_info=True)
    assert (set(info["missing_keys"]), set(info["unexpected_keys"])) == (set(), set())
    assert same(found, expected) == []
    assert found.config.num_labels == labels
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == [type(expected).__name__]
    assert {int(number): label for number, label in config["id2label"].items()} == expected.config.id2label
    assert config["label2id"] == expected.config.label2id
    held = {name: file.name for file in out.glob("*.safetensors") for name in load_file(file)}
    assert json.loads((out / INDEX_FILE).read_text())["weight_map"] == held
    assert json.loads((out / "manifest.json").read_text())["task"] == task


def test_a_base_without_names_before_its_layers_becomes_a_classifier_too(tmp_path: Path, run: Run) -> None:
    base, adapter = make_family(tmp_path / "base", "gpt2", BF16), tmp_path / "adapter"
    make_classifier(adapter, base, "SEQ_CLS", 2, target_modules=["c_attn"], fan_in_fan_out=True)
    file = base / "model.safetensors"
    save_file({name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}, file)
    out = merged(run, tmp_path, base, [adapter], "--task", "SEQ_CLS")
    found = CLASSES["SEQ_CLS"].from_pretrained(out, dtype="auto")
    assert same(found, merged_by_peft(base, adapter, "SEQ_CLS", 2)) == []


def test_a_classifier_is_made_only_where_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    base, adapter = make_family(tmp_path / "base", "llama", BF16), tmp_path / "adapter"
    make_classifier(adapter, base, "SEQ_CLS", 2, target_modules=["q_proj"])
    sources = ["--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(tmp_path).artifacts]
    assert run("merge", *sources).message == (
        f'{adapter.as_uri()}/adapter_model.safetensors tensor "base_model.model.score.weight" is the head of a '
        f"classifier, which {base.as_uri()} does not have, and no chat engine serves one: merge it all the same with "
        "ftm merge --task SEQ_CLS"
    )
    assert "task_type SEQ_CLS, not TOKEN_CLS" in run("merge", *sources, "--task", "TOKEN_CLS").message
    classifier = merged(run, tmp_path, base, [adapter], "--task", "SEQ_CLS")
    sources[1] = classifier.as_uri()
    assert "none of the adapters holds one: leave out --task" in run("merge", *sources, "--task", "SEQ_CLS").message
    again = merged(run, tmp_path / "again", classifier, [adapter])
    assert (
        same(CLASSES["SEQ_CLS"].from_pretrained(again, dtype="auto"), merged_by_peft(classifier, adapter, "SEQ_CLS", 2))
        == []
    )


@pytest.mark.parametrize("task", [*ClassifierTask])
def test_each_family_has_the_class_in_transformers_that_config_json_is_to_name(task: ClassifierTask) -> None:
    generating = (
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES | modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    found = {family: class_of(family, [generating[family]], task) for family in FAMILIES[task]}
    assert found == {family: MAPPINGS[task][family] for family in FAMILIES[task]}
