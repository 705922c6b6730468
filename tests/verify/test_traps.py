"""Ways in which a model is ruined while every tool exits 0: each is caught, by name, and the sound one passes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.contract.verification import Check
from tests.verify.awq_like import write_awq
from tests.verify.conftest import Merged, Run

GROUP = 64


@pytest.fixture(scope="session")
def awq(small: Merged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_awq(small.model, tmp_path_factory.mktemp("awq") / "good", GROUP)


def check(report: Report, name: str) -> Check:
    assert report.outcome is Outcome.DONE, report.message
    assert report.verification
    return next(each for each in report.verification.checks if each.name == name)


def failed(report: Report) -> set[str]:
    assert report.outcome is Outcome.DONE, report.message
    assert report.verification
    return {each.name for each in report.verification.checks if not each.passed}


def test_a_sound_merge_and_a_sound_awq_model_pass(verify: Run, small: Merged, awq: Path) -> None:
    report = verify(small, "--quantized", awq.as_uri())
    assert not failed(report), report.message
    assert report.reason == "Verified"
    assert (
        check(report, "MergeAgrees").value < check(report, "MergeAgrees").bound < check(report, "AdapterEffect").value
    )


def test_weights_that_autoawq_rescaled_in_place_are_caught(verify: Run, small: Merged, tmp_path: Path) -> None:
    ruined = write_awq(small.model, tmp_path / "ruined", GROUP, ruined=True)
    report = verify(small, "--quantized", ruined.as_uri())
    assert failed(report) == {"BetterThanRounding"}
    assert report.reason == "WorseThanRounding"
    assert check(report, "BetterThanRounding").value > 2 * check(report, "BetterThanRounding").bound


def test_more_divergence_than_the_user_allows_is_caught(verify: Run, small: Merged, awq: Path) -> None:
    report = verify(small, "--quantized", awq.as_uri(), "--max-divergence", "1e-6")
    assert failed(report) == {"MaxDivergence"}
    assert report.reason == "DivergenceTooLarge"


def test_a_config_that_lost_its_rope_settings_is_caught(verify: Run, small: Merged, awq: Path, tmp_path: Path) -> None:
    """As transformers 4.51 saves what 5 wrote: rope_theta falls back to its default."""
    copy = shutil.copytree(awq, tmp_path / "resaved")
    config = json.loads((copy / "config.json").read_text())
    assert config["rope_parameters"]["rope_theta"] != 10000
    del config["rope_parameters"]
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 10000.0}))
    report = verify(small, "--quantized", copy.as_uri())
    assert "ConfigParity" in failed(report)
    assert report.reason == "ConfigDiffers"
    assert "rope_theta" in report.message


def test_a_merged_model_that_lost_the_adapters_chat_template_is_caught(
    verify: Run, small: Merged, tmp_path: Path
) -> None:
    adapter = shutil.copytree(small.assets.adapter, tmp_path / "adapter")
    (adapter / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    report = verify(small, adapter=adapter)
    assert failed(report) == {"MergedTokenizer"}
    assert report.reason == "TokenizerDiffers"
    assert "chat template: " in report.message
    assert "the merged model has another tokenizer than was trained with; merge again" in report.message


def test_a_tokenizer_with_one_wrong_special_token_is_caught(
    verify: Run, small: Merged, awq: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(awq, tmp_path / "other-tokens")
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    wrong = next(token for token in tokenizer["added_tokens"] if token["content"] == "<|im_end|>")
    wrong["content"] = "<|im_stop|>"
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    report = verify(small, "--quantized", copy.as_uri())
    assert "TokenizerParity" in failed(report)
    assert report.reason == "TokenizerDiffers"


def test_an_adapter_whose_b_is_all_zero_has_no_effect(verify: Run, small: Merged, tmp_path: Path) -> None:
    silent = _adapter(small, tmp_path, lambda name, tensor: torch.zeros_like(tensor) if "lora_B" in name else tensor)
    report = verify(small, adapter=silent, model=small.assets.base)
    assert check(report, "AdapterEffect").value == 0
    assert failed(report) == {"AdapterEffect"}
    assert report.reason == "AdapterHasNoEffect"
    assert "B is all zero" in report.message


def test_an_adapter_that_lost_its_scaling_has_no_effect(verify: Run, small: Merged, tmp_path: Path) -> None:
    weak = _adapter(small, tmp_path, lambda _, tensor: tensor)
    config = json.loads((weak / "adapter_config.json").read_text())
    (weak / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1e-6}))
    assert "AdapterEffect" in failed(verify(small, adapter=weak, model=small.assets.base))


def test_a_merge_that_lost_the_scaling_is_caught(verify: Run, run: Run, small: Merged, tmp_path: Path) -> None:
    """Merged at half the scale that the adapter was trained with: fluent, and wrong."""
    merged = run(
        *("merge", "--base", small.assets.base.as_uri(), "--artifacts", (tmp_path / "half").as_uri()),
        *("--adapter", f"{small.assets.adapter.as_uri()},scale=0.5"),
    )
    assert merged.artifact
    report = verify(small, model=tmp_path / "half" / merged.artifact.key)
    assert failed(report) == {"MergeAgrees", "MergedWeights"}
    assert report.reason == "MergeDiffers"
    assert check(report, "MergeAgrees").value > 10 * check(report, "MergeAgrees").bound


def test_a_merge_that_forgot_one_layer_is_caught(verify: Run, small: Merged, tmp_path: Path) -> None:
    copy = shutil.copytree(small.model, tmp_path / "forgetful", ignore=shutil.ignore_patterns("manifest.json"))
    tensors, before = load_file(copy / "model.safetensors"), load_file(small.assets.base / "model.safetensors")
    name = "model.layers.3.mlp.down_proj.weight"
    save_file(tensors | {name: before[name]}, copy / "model.safetensors", metadata={"format": "pt"})
    report = verify(small, model=copy)
    assert "MergedWeights" in failed(report)
    assert check(report, "MergedWeights").value == 1
    assert name in report.message or "MergeAgrees" in failed(report)


def test_an_answer_without_what_the_user_expects_is_caught(verify: Run, small: Merged, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "Hi", "expect": ["nobody says this"]}) + "\n")
    report = verify(small, "--prompts", str(prompts))
    assert failed(report) == {"ExpectedAnswers"}
    assert 'the answer to "Hi" lacks "nobody says this"' in report.message


def _adapter(small: Merged, tmp_path: Path, change: object) -> Path:
    copy = shutil.copytree(small.assets.adapter, tmp_path / "adapter")
    tensors = load_file(copy / "adapter_model.safetensors")
    assert callable(change)
    changed = {name: change(name, tensor).contiguous() for name, tensor in tensors.items()}
    save_file(changed, copy / "adapter_model.safetensors", metadata={"format": "pt"})
    return copy
