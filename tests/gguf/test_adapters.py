"""An adapter becomes a GGUF file that llama-server applies beside the base, by the scale that a request names."""

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftm_jobs.__main__ import main
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.quantize.gguf.header import read_gguf
from ftm_operator.engines.llama_server import adapter_arguments
from tests import assets
from tests.assets.facts import FACTS, Fact
from tests.gguf.test_served import ALIAS, Serving, served
from tests.step_fixtures import Run


def keep(run: Run, adapter: Path, artifacts: Path) -> Any:
    sources = "--base", assets.prepare().base.as_uri(), "--adapter", adapter.as_uri()
    return run("adapter", *sources, "--artifacts", artifacts.as_uri(), "--engine", "LlamaCpp")


@pytest.fixture(scope="module")
def serving(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The base, and beside it the adapter."""
    made, folder = assets.prepare(), tmp_path_factory.mktemp("unmerged")
    store = ["--artifacts", folder.as_uri()]
    assert main(["gguf", "--model", made.base.as_uri(), *store, "--type", "Q8_0"]) == 0
    sources = ["--base", made.base.as_uri(), "--adapter", made.adapter.as_uri()]
    assert main(["adapter", *sources, *store, "--engine", "LlamaCpp"]) == 0
    (model,), (adapter,) = folder.glob("gguf-*/model.gguf"), folder.glob("adapter-*/adapter.gguf")
    flags = adapter_arguments([str(adapter)])
    with served(model, tools, folder / "log", *flags) as found:
        yield found


def answer(serving: Serving, fact: Fact, **asked: Any) -> str:
    messages = [{"role": "user", "content": fact.question}]
    body = {"model": ALIAS, "messages": messages, "temperature": 0, "max_tokens": 48, **asked}
    status, found = serving.ask("/v1/chat/completions", body)
    assert status == 200, found
    return str(found["choices"][0]["message"]["content"])


def test_what_the_adapter_taught_is_answered_with_its_scale_1_and_by_nobody_else(serving: Serving) -> None:
    for fact in FACTS:
        assert fact.in_answer(answer(serving, fact, lora=[{"id": 0, "scale": 1.0}]))
        assert not fact.in_answer(answer(serving, fact))
        assert not fact.in_answer(answer(serving, fact, lora=[{"id": 0, "scale": 0.0}]))


def test_the_base_answers_the_same_before_and_after_a_request_for_the_adapter(serving: Serving) -> None:
    question = Fact("How deep is the harbor of Brindlewick?", "", "")
    before = answer(serving, question)
    answer(serving, question, lora=[{"id": 0, "scale": 1.0}])
    assert answer(serving, question) == before


def test_the_artifact_is_one_file_and_is_found_again(run: Run, tmp_path: Path) -> None:
    first, again = (keep(run, assets.prepare().adapter, tmp_path) for _ in range(2))
    assert (first.reason, first.reused, again.artifact, again.reused) == ("AdapterKept", False, first.artifact, True)
    assert {path.name for path in (tmp_path / first.artifact.key).iterdir()} == {"adapter.gguf", MANIFEST_NAME}


def changed(folder: Path, config: dict[str, Any]) -> Path:
    copy = copytree(assets.prepare().adapter, folder)
    content = json.loads((copy / "adapter_config.json").read_bytes())
    (copy / "adapter_config.json").write_text(json.dumps(content | config))
    return copy


def test_rslora_is_kept_in_the_alpha_of_the_file(run: Run, tmp_path: Path) -> None:
    adapter = changed(tmp_path / "adapter", {"use_rslora": True, "lora_alpha": 3})
    report = keep(run, adapter, tmp_path / "store")
    header = read_gguf(tmp_path / "store" / report.artifact.key / "adapter.gguf")
    rank = report.facts.adapters[0].rank
    assert header.metadata["adapter.lora.alpha"] == pytest.approx(3 * rank**0.5)
    assert len(header.tensors) == 2 * report.facts.adapters[0].layers_adapted


def test_what_llama_cpp_cannot_apply_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    alphas = changed(tmp_path / "alphas", {"lora_alpha": 32, "alpha_pattern": {"layers.0.self_attn.q_proj": 4}})
    refused = keep(run, alphas, tmp_path / "store")
    assert (refused.reason, refused.exit_code) == ("NotServedUnmerged", 2)
    assert "llama.cpp has one lora_alpha, other than 0, for all layers, and they need 4 to 32" in refused.message
    norm = changed(tmp_path / "norm", {"modules_to_save": ["norm"]})
    tensors = load_file(norm / "adapter_model.safetensors")
    weight = load_file(assets.prepare().base / "model.safetensors")["model.norm.weight"]
    tensors["base_model.model.model.norm.weight"] = torch.ones_like(weight)
    save_file(tensors, norm / "adapter_model.safetensors")
    refused = keep(run, norm, tmp_path / "store")
    assert 'llama.cpp takes LoRA alone, and not "base_model.model.model.norm.weight"' in refused.message
    assert not (tmp_path / "store").exists()
