"""Bases that are served as they are stored: inspected, fetched, and adapters matched to quantized ones."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftm_jobs.adapters.dynamic_serving import OWN_TOKENIZER
from ftm_jobs.contract.manifest import MANIFEST_NAME
from tests.models.llamas import Kind, make_adapters, make_base
from tests.places import Disk, Place
from tests.step_fixtures import Run

FP8 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), Kind(shard="60KB"))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, base: Path) -> list[Path]:
    return make_adapters(tmp_path_factory.mktemp("adapter"), base, Kind(adapters=2))


def quantized(base: Path, folder: Path, config: dict[str, object]) -> Path:
    """Returns a copy of the base whose layers are packed as the config says, with scales of one."""
    copytree(base, folder)
    for file in folder.glob("*.safetensors"):
        packed: dict[str, torch.Tensor] = {}
        for name, tensor in load_file(file).items():
            module = name.removesuffix(".weight")
            outputs = tensor.shape[0]
            if not module.endswith("_proj"):
                packed[name] = tensor
            elif config is FP8:
                packed[name] = tensor.to(torch.float8_e4m3fn)
                packed[f"{module}.weight_scale"] = torch.ones(outputs, 1)
            else:
                inputs = tensor.shape[1]
                packed[f"{module}.qweight"] = torch.zeros(inputs, outputs // 8, dtype=torch.int32)
                packed[f"{module}.qzeros"] = torch.zeros(inputs // 32, outputs // 8, dtype=torch.int32)
                packed[f"{module}.scales"] = torch.ones(inputs // 32, outputs, dtype=torch.float16)
        save_file(packed, file)
    names = {name: file.name for file in folder.glob("*.safetensors") for name in load_file(file)}
    index = {"metadata": {"total_size": 0}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    content = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(content | {"quantization_config": config}))
    return folder


def test_fetch_brings_the_base_s_own_bytes_and_a_second_run_keeps_them(
    place: Place, run: Run, base: Path, tmp_path: Path
) -> None:
    source = place.upload(base)
    inspected = run("inspect", "--unmerged", "--base", source).facts
    assert inspected
    pinned, folder = f"{source},digest={inspected.base.digest}", tmp_path / "model"
    report = run("fetch", "--base", pinned, "--to", str(folder))
    assert (report.reason, report.reused) == ("Fetched", False)
    for file in base.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    (shard, *_) = sorted(folder.glob("*.safetensors"))
    shard.write_bytes(bytes(shard.stat().st_size))
    mended = run("fetch", "--base", pinned, "--to", str(folder))
    assert mended.message.endswith("; 1 of them fetched")
    assert shard.read_bytes() == (base / shard.name).read_bytes()
    assert run("fetch", "--base", pinned, "--to", str(folder)).reused


def test_fetch_refuses_a_base_that_changed_and_a_folder_with_other_weights(
    run: Run, base: Path, tmp_path: Path
) -> None:
    changed = f"{base.as_uri()},digest=sha256:{'0' * 64}"
    assert run("fetch", "--base", changed, "--to", str(tmp_path / "model")).reason == "SourceChanged"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/model-9.safetensors").write_bytes(b"other")
    taken = run("fetch", "--base", base.as_uri(), "--to", str(tmp_path / "taken"))
    assert (taken.reason, taken.exit_code) == ("DestinationTaken", 2)
    assert "holds model-9.safetensors, which is not of" in taken.message


def test_an_artifact_and_a_base_are_not_fetched_at_once(run: Run, base: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run("fetch", "--base", base.as_uri(), "--artifact", base.as_uri(), "--to", str(tmp_path))
    refused = run("fetch", "--to", str(tmp_path))
    assert (refused.outcome, refused.reason) == ("InvalidInput", "InvalidURI")
    assert refused.message == "there is nothing to fetch: write --artifact or --base, and --to"


@pytest.mark.parametrize("config", [FP8, AWQ], ids=["FP8", "AWQ"])
def test_an_adapter_is_kept_for_a_base_that_is_served_quantized(
    tmp_path: Path, run: Run, base: Path, adapters: list[Path], config: dict[str, object]
) -> None:
    sources = "--base", quantized(base, tmp_path / "quantized", config).as_uri(), "--adapter", adapters[0].as_uri()
    asked = () if config is FP8 else ("--quantized-base", "AsStored")
    inspected = run("inspect", "--unmerged", *asked, *sources)
    assert inspected.facts, inspected
    assert inspected.facts.adapters[0].layers_adapted == 14
    assert inspected.facts.adapters[0].dynamic_objections == ()
    assert (inspected.facts.base.config or {})["quantization_config.quant_method"] == f'"{config["quant_method"]}"'
    assert any("(vLLM #42488)" in note for note in inspected.notes) == (config is AWQ)
    kept = run("adapter", *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert kept.reason == "AdapterKept"
    assert run("fetch", "--base", sources[1], "--to", str(tmp_path / "model")).reason == "Fetched"
    assert run("inspect", *sources).reason == "UnsupportedBase"


def test_four_bits_are_taken_only_when_asked_for(tmp_path: Path, run: Run, base: Path) -> None:
    source = quantized(base, tmp_path / "quantized", AWQ).as_uri()
    refused = run("inspect", "--unmerged", "--base", source)
    assert (refused.reason, refused.exit_code) == ("UnsupportedBase", 2)
    assert refused.message.endswith(
        ": name the 16-bit model it was made from, or give --quantized-base AsStored to serve adapters beside these "
        "weights"
    )


def test_an_adapter_of_another_width_is_refused_by_a_quantized_base(
    tmp_path: Path, run: Run, base: Path, adapters: list[Path]
) -> None:
    stored = quantized(base, tmp_path / "quantized", AWQ)
    for file in stored.glob("*.safetensors"):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if name.endswith("q_proj.qweight"):
                tensors[name] = torch.zeros(128, tensor.shape[1], dtype=torch.int32)
        save_file(tensors, file)
    sources = "--base", stored.as_uri(), "--adapter", adapters[0].as_uri()
    refused = run("adapter", *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert (refused.reason, refused.exit_code) == ("AdapterMismatch", 2)
    assert "needs (r, 128)" in refused.message


def test_adapters_that_contradict_each_other_are_each_checked_alone(
    tmp_path: Path, run: Run, base: Path, adapters: list[Path]
) -> None:
    copies = [copytree(adapter, tmp_path / adapter.name) for adapter in adapters]
    for number, copy in enumerate(copies):
        tokens = {"model": {"type": "BPE", "vocab": {f"word{number}": 0}, "merges": []}, "added_tokens": []}
        (copy / "tokenizer.json").write_text(json.dumps(tokens))
    sources = "--base", base.as_uri(), *(word for copy in copies for word in ("--adapter", copy.as_uri()))
    assert run("inspect", *sources).reason == "AdapterMismatch"
    facts = run("inspect", "--unmerged", *sources).facts
    assert facts
    objections = [adapter.dynamic_objections for adapter in facts.adapters]
    assert objections == [(OWN_TOKENIZER,)] * 2


def test_the_artifact_s_own_manifest_is_no_file_of_a_base(tmp_path: Path, run: Run, base: Path) -> None:
    copy = copytree(base, tmp_path / "copy")
    (copy / MANIFEST_NAME).write_text("{}")
    assert run("fetch", "--base", copy.as_uri(), "--to", str(tmp_path / "model")).reason == "Fetched"
    assert not (tmp_path / "model" / MANIFEST_NAME).exists()
