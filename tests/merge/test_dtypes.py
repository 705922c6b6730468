"""`merge --dtype`: what PEFT makes of a base that is loaded in float32, rounded once to the dtype."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftm_jobs.contract.keys import OutputDtype
from tests.merge.test_kinds import (
    BF16,
    DORA,
    EXPERTS,
    FP16,
    FP32,
    PLAIN,
    RESIZED_EMBEDDING,
    TRAINED_BOTH,
    merged,
    same,
)  # fmt: skip
from tests.models.families import Adapter, load, make_adapter, make_family, merged_by_peft
from tests.places import Disk
from tests.step_fixtures import Run

TORCH = {OutputDtype.BFLOAT16: BF16, OutputDtype.FLOAT16: FP16, OutputDtype.FLOAT32: FP32}
CASES = {
    "bf16 to fp32": ("llama", BF16, [PLAIN], OutputDtype.FLOAT32),
    "bf16 to fp32, DoRA and plain": ("llama", BF16, [DORA, PLAIN], OutputDtype.FLOAT32),
    "bf16 to fp16, two": ("llama", BF16, [PLAIN, PLAIN], OutputDtype.FLOAT16),
    "fp32 to bf16, two": ("llama", FP32, [PLAIN, DORA], OutputDtype.BFLOAT16),
    "fp16 to bf16, resized": ("llama", FP16, [RESIZED_EMBEDDING], OutputDtype.BFLOAT16),
    "tied, trained, fp32 to bf16": ("llama tied", FP32, [TRAINED_BOTH], OutputDtype.BFLOAT16),
    "experts, fp32 to fp16": ("qwen3 moe", FP32, [EXPERTS], OutputDtype.FLOAT16),
    "images too, bf16 to fp32": ("llava", BF16, [Adapter({"target_modules": ["q_proj", "fc1"]})], OutputDtype.FLOAT32),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("family", "stored", "adapters", "dtype"), CASES.values(), ids=CASES)
def test_a_cast_merge_is_peft_s_in_float32_rounded_once(
    family: str, stored: torch.dtype, adapters: list[Adapter], dtype: OutputDtype, tmp_path: Path, run: Run
) -> None:
    base = make_family(tmp_path / "base", family, stored, shard="20KB")
    folders = [
        make_adapter(tmp_path / f"adapter-{number}", family, base, stored, adapter, number)
        for number, adapter in enumerate(adapters)
    ]
    out = merged(run, tmp_path, base, folders, "--dtype", dtype)
    expected = merged_by_peft(family, base, FP32, folders, [1.0] * len(folders), adapters[0].vocabulary).to(
        TORCH[dtype]
    )
    assert same(load(family, out), expected) == []
    tensors = [tensor for file in out.glob("*.safetensors") for tensor in load_file(file).values()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {TORCH[dtype]}
    for said in _dtypes(json.loads((out / "config.json").read_text())):
        assert said == dtype
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors)


def _dtypes(config: dict[str, object]) -> list[object]:
    inner = [name for value in config.values() if isinstance(value, dict) for name in _dtypes(value)]
    return [config[name] for name in ("dtype", "torch_dtype") if name in config] + inner


def test_tensors_that_are_in_the_dtype_already_are_merged_as_ever_and_rounding_is_said(
    tmp_path: Path, run: Run
) -> None:
    base = make_family(tmp_path / "base", "llama", BF16)
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float() + 1e-5
    tensors["counts"] = torch.arange(3)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    adapters = [make_adapter(tmp_path / f"adapter-{seed}", "llama", base, BF16, PLAIN, seed) for seed in range(2)]
    plain = load_file(merged(run, tmp_path, base, adapters) / "model.safetensors")
    sources = [f"--adapter={path.as_uri()}" for path in adapters]
    place = Disk(tmp_path)
    report = run("merge", "--base", base.as_uri(), *sources, "--artifacts", place.artifacts, "--dtype", "bfloat16")
    assert report.artifact
    assert "float32 → bfloat16 rounds 1 tensor" in report.notes
    found = load_file(tmp_path / "artifacts" / report.artifact.key / "model.safetensors")
    plain["model.norm.weight"] = plain["model.norm.weight"].to(BF16)
    assert all(torch.equal(found[name], plain[name]) and found[name].dtype == plain[name].dtype for name in plain)
    manifest = json.loads((tmp_path / "artifacts" / report.artifact.key / "manifest.json").read_text())
    assert (manifest["dtype"], manifest["notes"]) == ("bfloat16", list(report.notes))


@pytest.mark.parametrize("adapted", [True, False])
def test_a_number_that_the_dtype_cannot_hold_is_refused_by_the_tensors_name(
    tmp_path: Path, run: Run, adapted: bool
) -> None:
    name = "model.layers.1.mlp.up_proj.weight" if adapted else "model.norm.weight"
    base = make_family(tmp_path / "base", "llama", BF16)
    adapter = make_adapter(tmp_path / "adapter", "llama", base, BF16, PLAIN)
    tensors = load_file(base / "model.safetensors")
    tensors[name].view(-1)[5] = 1e5
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    sources = "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(tmp_path).artifacts
    report = run("merge", *sources, "--dtype", "float16")
    assert report.reason == "UnsupportedBase"
    assert f'tensor "{name}" holds ' in report.message
    assert "which is beyond 65504, the largest number in float16: write the merged model in another" in report.message
    assert run("merge", *sources, "--dtype", "float32").reason == "Merged"
