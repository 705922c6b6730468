"""inspect, merge and fetch from end to end, on the disk and on a real S3 server, against PEFT bit for bit."""

import hashlib
import json
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.contract.report import Report
from tests.models.llamas import Kind, make_adapters, make_base, medium, merged_by_peft, weights
from tests.places import S3, Disk, Place
from tests.step_fixtures import Run

KINDS = {
    "bf16": Kind(),
    "fp16": Kind(dtype=torch.float16),
    "fp32": Kind(dtype=torch.float32),
    "bf16 adapter": Kind(adapter_dtype=torch.bfloat16),
    "rsLoRA": Kind(lora={"use_rslora": True}),
    "rank and alpha patterns": Kind(
        lora={"rank_pattern": {"layers.0.self_attn.q_proj": 8, "q_proj": 2}, "alpha_pattern": {".*proj": 3}}
    ),
    "some layers": Kind(lora={"target_modules": ["v_proj"], "layers_to_transform": [1]}),
    "output layer": Kind(lora={"target_modules": ["lm_head", "q_proj"]}),
    "shards": Kind(shard="60KB"),
    "three adapters": Kind(adapters=3),
    "gaussian": Kind(lora={"init_lora_weights": "gaussian"}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), KINDS["shards"])


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_adapters(tmp_path_factory.mktemp("adapter"), base, KINDS["shards"])[0]


def merge(run: Run, place: Place, base: Path, adapter: Path) -> Report:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter)
    return run("merge", *sources, "--artifacts", place.artifacts)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_merged_model_is_peft_s_bit_for_bit(kind: Kind, tmp_path: Path, run: Run) -> None:
    base = make_base(tmp_path / "base", kind)
    adapters = make_adapters(tmp_path, base, kind)
    scales = [1.0, 0.3, -2.0][: kind.adapters]
    sources = [f"--adapter={path.as_uri()},scale={scale}" for path, scale in zip(adapters, scales, strict=True)]
    report = run("merge", "--base", base.as_uri(), *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert report.artifact, report
    expected = merged_by_peft(base, adapters, scales, kind.dtype)
    found = weights(tmp_path / "artifacts" / report.artifact.key)
    assert found.keys() == expected.keys()
    assert {tensor.dtype for tensor in found.values()} == {kind.dtype}
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    before = weights(base)
    assert any(not torch.equal(found[name], before[name]) for name in found)


def test_headers_untouched_tensors_and_other_files_are_the_bases_bytes(
    place: Place, run: Run, base: Path, adapter: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for file in base.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "README.md", "pytorch_model.bin", "manifest.json"):
        (source / name).write_bytes(f'{{"{name}": "of the base"}}'.encode())
    report = merge(run, place, source, adapter)
    assert report.artifact, report
    built = place.built()
    prefix = report.artifact.key
    assert {name.removeprefix(f"{prefix}/") for name in built} == {
        *(file.name for file in base.iterdir()),
        "tokenizer.json",
        "chat_template.jinja",
        "LICENSE",
        MANIFEST_NAME,
    }
    for file in source.iterdir():
        if file.suffix != ".safetensors" and f"{prefix}/{file.name}" in built and file.name != MANIFEST_NAME:
            assert built[f"{prefix}/{file.name}"] == file.read_bytes()
    for file in base.glob("*.safetensors"):
        before, after = file.read_bytes(), built[f"{prefix}/{file.name}"]
        size = 8 + int.from_bytes(before[:8], "little")
        assert before[:size] == after[:size]
        for name, entry in json.loads(before[8:size]).items():
            if name != "__metadata__" and "proj" not in name:
                begin, end = entry["data_offsets"]
                assert before[size + begin : size + end] == after[size + begin : size + end]


def test_inspect_reports_the_facts_and_digests_with_which_merge_finds_the_same(
    place: Place, run: Run, base: Path, adapter: Path
) -> None:
    base_source, adapter_source = place.upload(base), place.upload(adapter)
    facts = run("inspect", "--base", base_source, "--adapter", adapter_source).facts
    assert facts
    assert (facts.base.architecture, facts.base.dtype, facts.base.layers) == ("LlamaForCausalLM", "BF16", 2)
    assert facts.base.parameters == sum(tensor.numel() for tensor in weights(base).values())
    assert facts.base.parameters == sum(prod(group.shape) * group.count for group in facts.base.tensors or ())
    assert (facts.base.config or {})["num_hidden_layers"] == "2"
    assert facts.adapters[0].rank == 4
    assert facts.adapters[0].scaling == 2.5
    assert facts.adapters[0].layers_adapted == 14
    pinned = f"{base_source},digest={facts.base.digest}", f"{adapter_source},digest={facts.adapters[0].digest}"
    report = run("merge", "--base", pinned[0], "--adapter", pinned[1], "--artifacts", place.artifacts)
    assert report.reason == "Merged"
    other = f"{base_source},digest=sha256:{'0' * 64}"
    refused = run("merge", "--base", other, "--adapter", pinned[1], "--artifacts", place.artifacts)
    assert refused.reason == "SourceChanged"
    assert "is no longer what was inspected" in refused.message


def test_the_same_model_has_the_same_key_on_the_disk_and_on_s3(
    s3: S3, run: Run, base: Path, adapter: Path, tmp_path: Path
) -> None:
    reports = [merge(run, place, base, adapter) for place in (s3, Disk(tmp_path))]
    keys = [report.artifact.key for report in reports if report.artifact]
    assert keys[0] == keys[1]
    on_s3, on_disk = s3.built(), Disk(tmp_path).built()
    assert on_s3.keys() == on_disk.keys()
    assert all(on_s3[name] == on_disk[name] for name in on_s3 if not name.endswith(MANIFEST_NAME))


def test_a_second_run_writes_nothing_and_says_so(
    place: Place, run: Run, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter), "--artifacts", place.artifacts
    first = run("merge", *sources)
    before = place.built()
    monkeypatch.setattr("ftm_jobs.stores.transfer.copy", None)
    monkeypatch.setattr("ftm_jobs.merge.rewrite.rewrite", None)
    second = run("merge", *sources)
    assert (first.reason, first.reused, second.reason, second.reused) == ("Merged", False, "AlreadyMerged", True)
    assert first.artifact == second.artifact
    assert place.built() == before


def test_the_manifest_names_every_file_and_is_the_same_in_a_second_place(
    place: Place, run: Run, base: Path, adapter: Path
) -> None:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter), "--artifacts"
    report = run("merge", *sources, place.artifacts)
    assert report.artifact
    built = place.built()
    text = built[f"{report.artifact.key}/{MANIFEST_NAME}"]
    manifest = json.loads(text)
    assert report.artifact.digest == f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert {f"{report.artifact.key}/{file['path']}" for file in manifest["files"]} | {
        f"{report.artifact.key}/{MANIFEST_NAME}"
    } == built.keys()
    for file in manifest["files"]:
        content = built[f"{report.artifact.key}/{file['path']}"]
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    store = place.store().child(report.artifact.key)
    store.delete(MANIFEST_NAME)
    again = run("merge", *sources, place.artifacts)
    assert again.reason == "Merged"
    assert place.built() == built


def test_an_artifact_that_lost_a_file_is_made_again(place: Place, run: Run, base: Path, adapter: Path) -> None:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter), "--artifacts", place.artifacts
    report = run("merge", *sources)
    assert report.artifact
    built = place.built()
    place.store().child(report.artifact.key).delete("config.json")
    assert run("merge", *sources).artifact == report.artifact
    assert place.built() == built


def test_another_scale_another_order_or_another_adapter_is_another_artifact(
    place: Place, run: Run, base: Path, tmp_path: Path
) -> None:
    first, second = make_adapters(tmp_path, base, Kind(adapters=2))
    source, a, b = place.upload(base), place.upload(first), place.upload(second)
    combinations = [[a], [b], [a, b], [b, a], [a.replace(",", ",scale=0.5,", 1) if "," in a else f"{a},scale=0.5"]]
    reports = [
        run(
            "merge", "--base", source, *(f"--adapter={adapter}" for adapter in adapters), "--artifacts", place.artifacts
        )
        for adapters in combinations
    ]
    assert len({report.artifact.key for report in reports if report.artifact}) == len(combinations)


def test_fetch_brings_every_file_and_a_second_fetch_keeps_them(
    place: Place, run: Run, base: Path, adapter: Path, tmp_path: Path
) -> None:
    merged = merge(run, place, base, adapter)
    folder = tmp_path / "model"
    report = run("fetch", "--artifact", place.artifact(merged), "--to", str(folder))
    assert (report.reason, report.reused, report.artifact) == ("Fetched", False, merged.artifact)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name.partition("/")[2]: content for name, content in place.built().items()
    }
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    second = run("fetch", "--artifact", place.artifact(merged), "--to", str(folder))
    assert second.reused
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == stamps


def test_fetch_replaces_what_is_wrong_in_the_folder(
    place: Place, run: Run, base: Path, adapter: Path, tmp_path: Path
) -> None:
    merged = merge(run, place, base, adapter)
    folder, outside = tmp_path / "model", tmp_path / "outside"
    run("fetch", "--artifact", place.artifact(merged), "--to", str(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shard = next(folder.glob("*.safetensors"))
    shard.write_bytes(bytes(shard.stat().st_size))
    (folder / "config.json").unlink()
    outside.write_bytes(before["generation_config.json"])
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to(outside)
    assert not run("fetch", "--artifact", place.artifact(merged), "--to", str(folder)).reused
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (folder / "generation_config.json").is_symlink()


@pytest.mark.parametrize(("offset", "reason"), [(-1, "CorruptArtifact"), (None, "CorruptArtifact")])
def test_fetch_refuses_an_artifact_that_is_not_what_its_manifest_says(
    place: Place, run: Run, base: Path, adapter: Path, tmp_path: Path, offset: int | None, reason: str
) -> None:
    merged = merge(run, place, base, adapter)
    assert merged.artifact
    store = place.store().child(merged.artifact.key)
    name = "model-00001-of-00003.safetensors"
    content = bytearray(place.built()[f"{merged.artifact.key}/{name}"])
    if offset is None:
        content.pop()
    else:
        content[offset] ^= 1
    store.put(name, bytes(content))
    report = run("fetch", "--artifact", place.artifact(merged), "--to", str(tmp_path / "model"))
    assert report.reason == reason
    assert name in report.message
    assert not (tmp_path / "model" / name).exists()
    assert not (tmp_path / "model" / MANIFEST_NAME).exists()


def test_fetch_without_a_manifest_finds_no_artifact(
    place: Place, run: Run, base: Path, adapter: Path, tmp_path: Path
) -> None:
    nothing = run("fetch", "--artifact", place.artifacts, "--to", str(tmp_path / "model"))
    assert nothing.reason == "SourceNotFound"
    merged = merge(run, place, base, adapter)
    assert merged.artifact
    place.store().child(merged.artifact.key).delete(MANIFEST_NAME)
    report = run("fetch", "--artifact", place.artifact(merged), "--to", str(tmp_path / "model"))
    assert report.reason == "MissingFile"
    assert "has no manifest.json, so no complete artifact is there" in report.message


def test_rows_in_blocks_and_chunks_give_the_whole_matrices_bits(tmp_path: Path, run: Run) -> None:
    base, adapter = medium(tmp_path, layers=1, width=3000)
    report = run(
        "merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(tmp_path).artifacts
    )
    assert report.artifact
    found, before, factors = weights(tmp_path / "artifacts" / report.artifact.key), weights(base), weights(adapter)
    for name, weight in before.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        delta = (factors[f"{prefix}.lora_B.weight"] @ factors[f"{prefix}.lora_A.weight"]) * 2.0
        assert torch.equal(found[name], weight.add_(delta))


def test_safetensors_reads_what_was_merged(place: Place, run: Run, base: Path, adapter: Path, tmp_path: Path) -> None:
    merged = merge(run, place, base, adapter)
    run("fetch", "--artifact", place.artifact(merged), "--to", str(tmp_path / "model"))
    for file in (tmp_path / "model").glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
