"""Bad input, on the disk and on a real S3 server: one clear sentence, and nothing written."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile
from ftm_jobs.contract.steps import Outcome, Step
from tests.places import S3, Disk, Place, write_secret
from tests.servers.seaweedfs import ADMIN, READER, WRITER
from tests.step_fixtures import Run
from tests.unit.jobs.files import (
    ADAPTER_CONFIG,
    ADAPTER_SHAPES,
    BASE_SHAPES,
    LLAMA_CONFIG,
    Q_PROJ,
    entries,
    safetensors,
    zeros,
)

SHARD = "model-00001-of-00001.safetensors"
A = f"base_model.model.{Q_PROJ}.lora_A.weight"


@dataclass(frozen=True)
class Bomb:
    """Makes a file when it is unpickled."""

    file: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return folder(
        tmp_path / "a-base", {"config.json": json.dumps(LLAMA_CONFIG).encode(), "model.safetensors": zeros(BASE_SHAPES)}
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return folder(
        tmp_path / "an-adapter",
        {
            "adapter_config.json": json.dumps(ADAPTER_CONFIG).encode(),
            "adapter_model.safetensors": zeros(ADAPTER_SHAPES),
        },
    )


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def sharded(weight_map: dict[str, str]) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        (base / "model.safetensors").rename(base / SHARD)
        (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return change


def overwritten(name: str, content: bytes | Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        before = (path / name).read_bytes() if (path / name).exists() else b""
        (path / name).write_bytes(content(before) if callable(content) else content)

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def pickled(name: str, instead_of: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / instead_of).unlink()
        (path / name).write_bytes(pickle.dumps({}))

    return change


def lying(**entry: Any) -> bytes:
    found = entries(BASE_SHAPES)
    found[f"{Q_PROJ}.weight"] |= entry
    return safetensors(found, bytes(32 * 8 * 2 * 2 + 8 * 8 * 2 + 4 * 8 * 2))


WRONG_BASES: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "no config": (removed("config.json"), "MissingFile", ["has model.safetensors but no config.json: copy it from"]),
    "no weights": (removed("model.safetensors"), "MissingFile", ["has no model.safetensors"]),
    "pickles": (
        pickled("pytorch_model.bin", "model.safetensors"),
        "PickleWeights",
        ["has its weights in pytorch_model.bin, a pickle, which can run code when it is loaded: save it as"],
    ),
    "a torch pickle": (pickled("model.pt", "model.safetensors"), "PickleWeights", ["model.pt, a pickle"]),
    "cut": (
        overwritten("model.safetensors", lambda content: content[:-10]),
        "InvalidSafetensors",
        ["model.safetensors has", 'its last tensor "lm_head.weight" ends at byte', "it is cut short: upload it again"],
    ),
    "cut in the header": (
        overwritten("model.safetensors", lambda content: content[:40]),
        "InvalidSafetensors",
        ["model.safetensors declares a header of", "but has 40 bytes in all"],
    ),
    "lying dtype": (
        overwritten("model.safetensors", lying(dtype="F32")),
        "InvalidSafetensors",
        [f'model.safetensors tensor "{Q_PROJ}.weight" has 128 bytes', "F32 of shape [8, 8] needs 256"],
    ),
    "lying offsets": (
        overwritten("model.safetensors", lying(data_offsets=[0, 128])),
        "InvalidSafetensors",
        ["model.safetensors tensor", "overlaps"],
    ),
    "not json": (overwritten("config.json", b"{"), "InvalidConfig", ["config.json is not JSON"]),
    "quantized": (
        overwritten(
            "config.json", json.dumps(LLAMA_CONFIG | {"quantization_config": {"quant_method": "gptq"}}).encode()
        ),
        "UnsupportedBase",
        ['quant_method "gptq"', "name the 16-bit model it was made from"],
    ),
    "index out of the folder": (
        sharded({f"{Q_PROJ}.weight": "../../secret.safetensors"}),
        "InvalidIndex",
        [f"index.json puts tensor \"{Q_PROJ}.weight\" in '../../secret.safetensors': only safetensors files beside"],
    ),
    "index to an absolute path": (sharded({"a": "/etc/passwd"}), "InvalidIndex", ["'/etc/passwd'"]),
    "index to nothing": (
        sharded({"a": "model-00002-of-00002.safetensors"}),
        "MissingFile",
        ['names "model-00002-of-00002.safetensors", which is not beside it'],
    ),
    "index against headers": (
        sharded({"model.absent.weight": SHARD}),
        "InvalidIndex",
        [f'puts tensor "model.absent.weight" in {SHARD}, but no file holds it'],
    ),
}
WRONG_ADAPTERS: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "no config": (
        removed("adapter_config.json"),
        "MissingFile",
        ["but no adapter_config.json, which says rank and alpha"],
    ),
    "pickles": (
        pickled("adapter_model.bin", "adapter_model.safetensors"),
        "PickleWeights",
        ["adapter_model.bin, a pickle", "save it as adapter_model.safetensors"],
    ),
    "cut": (
        overwritten("adapter_model.safetensors", lambda content: content[:-1]),
        "InvalidSafetensors",
        ["adapter_model.safetensors has", "it is cut short: upload it again"],
    ),
    "another base's shapes": (
        overwritten("adapter_model.safetensors", zeros(ADAPTER_SHAPES | {A: ("F32", (2, 64))})),
        "AdapterMismatch",
        [f'adapter_model.safetensors tensor "{A}" of shape (2, 64) needs (r, 8)', "model.safetensors: use the base"],
    ),
    "another base's names": (
        overwritten(
            "adapter_model.safetensors",
            zeros({name.replace("layers.0", "layers.31"): shape for name, shape in ADAPTER_SHAPES.items()}),
        ),
        "AdapterMismatch",
        ['adapter_model.safetensors tensor "', 'adapts "model.layers.31.self_attn.q_proj.weight", which'],
    ),
    "another training's config": (
        overwritten("adapter_config.json", json.dumps(ADAPTER_CONFIG | {"use_dora": True}).encode()),
        "AdapterMismatch",
        ["adapter_model.safetensors holds none of the tensors that use_dora in adapter_config.json promises"],
    ),
    "aLoRA": (
        overwritten("adapter_config.json", json.dumps(ADAPTER_CONFIG | {"alora_invocation_tokens": [1]}).encode()),
        "UnsupportedAdapter",
        ["adapter_config.json: alora_invocation_tokens is [1]", "serve it unmerged"],
    ),
    "a layer that the base does not have": (
        overwritten(
            "adapter_model.safetensors",
            zeros(ADAPTER_SHAPES | {"base_model.model.extra.weight": ("F32", (2, 8))}),
        ),
        "AdapterMismatch",
        ['"base_model.model.extra.weight" replaces "extra.weight", which', "use the base that the adapter"],
    ),
}


def refused(run: Run, place: Place, base: Path, adapter: Path, reason: str, sentences: list[str]) -> None:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter)
    for arguments in (["inspect", *sources], ["merge", *sources, "--artifacts", place.artifacts]):
        report = run(*arguments)
        assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, reason), report.message
        for sentence in sentences:
            assert sentence in report.message
        assert "\n" not in report.message
        assert not any(str(secret) in report.message for secret in ("credentials", "AWS_SECRET"))
    assert place.built() == {}
    assert place.unfinished() == 0


@pytest.mark.parametrize(("change", "reason", "sentences"), WRONG_BASES.values(), ids=WRONG_BASES)
def test_a_wrong_base_is_refused_and_nothing_is_written(
    place: Place,
    run: Run,
    base: Path,
    adapter: Path,
    change: Callable[[Path], None],
    reason: str,
    sentences: list[str],
) -> None:
    change(base)
    refused(run, place, base, adapter, reason, sentences)


@pytest.mark.parametrize(("change", "reason", "sentences"), WRONG_ADAPTERS.values(), ids=WRONG_ADAPTERS)
def test_a_wrong_adapter_is_refused_and_nothing_is_written(
    place: Place,
    run: Run,
    base: Path,
    adapter: Path,
    change: Callable[[Path], None],
    reason: str,
    sentences: list[str],
) -> None:
    change(adapter)
    refused(run, place, base, adapter, reason, sentences)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "adapter_model.bin"])
def test_a_pickle_is_refused_without_being_loaded(
    run: Run, base: Path, adapter: Path, tmp_path: Path, name: str
) -> None:
    exploded = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(exploded))
    source = adapter if name.startswith("adapter") else base
    (weights,) = source.glob("*.safetensors")
    weights.unlink()
    (source / name).write_bytes(bomb)
    sources = "--base", base.as_uri(), "--adapter", adapter.as_uri()
    assert run("inspect", *sources).reason == "PickleWeights"
    assert run("merge", *sources, "--artifacts", (tmp_path / "built").as_uri()).reason == "PickleWeights"
    assert not exploded.exists()
    pickle.loads(bomb)
    assert exploded.exists(), "loading it would have shown"


def test_the_untouched_sources_of_these_tests_do_merge(place: Place, run: Run, base: Path, adapter: Path) -> None:
    sources = "--base", place.upload(base), "--adapter", place.upload(adapter)
    assert run("merge", *sources, "--artifacts", place.artifacts).reason == "Merged"


@pytest.mark.parametrize(("size", "name"), [(0, "../outside"), (1, "/tmp/ftm-jobs-outside"), (1, "a/../../outside")])
def test_fetch_refuses_a_manifest_that_leads_out_of_the_folder(
    place: Place, run: Run, tmp_path: Path, size: int, name: str
) -> None:
    files = (ManifestFile(path=name, size=size, sha256="0" * 64),)
    manifest = Manifest(key="merge-0", step=Step.MERGE, recipe=1, inputs=(), files=files)
    place.store().child("merge-0").put(MANIFEST_NAME, encode(manifest))
    uri, *credentials = place.artifacts.split(",")
    report = run("fetch", "--artifact", ",".join([f"{uri}/merge-0", *credentials]), "--to", str(tmp_path / "to"))
    assert report.reason == "CorruptArtifact"
    assert repr(name) in report.message
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "to").exists()


def test_a_file_that_is_not_what_its_store_declares_never_becomes_a_merged_one(
    s3: S3, run: Run, base: Path, adapter: Path
) -> None:
    sources = ["--base", s3.upload(base, "base"), "--adapter", s3.upload(adapter)]
    content = bytearray((base / "model.safetensors").read_bytes())
    content[-1] ^= 1
    s3.server.client().put_object(
        Bucket="models",
        Key=f"{s3.prefix}/base/model.safetensors",
        Body=bytes(content),
        Metadata={"sha256": "0" * 64},
    )
    report = run("merge", *sources, "--artifacts", s3.artifacts)
    assert report.reason == "CorruptSource"
    assert "model.safetensors has sha256 " in report.message
    assert s3.built() == {}
    assert s3.unfinished() == 0


@pytest.mark.parametrize("wrong", ["secret", "key", "other bucket's", "none", "half", "missing folder", "empty folder"])
def test_wrong_credentials_are_told_apart_from_an_unreachable_store(
    s3: S3, run: Run, base: Path, adapter: Path, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    uri = s3.upload(base).partition(",")[0]
    empty = tmp_path / "empty"
    empty.mkdir()
    secret = {
        "secret": lambda: s3.secret(READER, AWS_SECRET_ACCESS_KEY="wrong"),
        "key": lambda: s3.secret(READER, AWS_ACCESS_KEY_ID="wrong"),
        "other bucket's": lambda: s3.secret(WRITER),
        "none": lambda: s3.secret(READER, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""),
        "half": lambda: s3.secret(READER, AWS_SECRET_ACCESS_KEY=""),
        "missing folder": lambda: tmp_path / "absent",
        "empty folder": lambda: empty,
    }[wrong]()
    report = run("inspect", "--base", f"{uri},credentials={secret}", "--adapter", s3.upload(adapter))
    assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, "AccessDenied"), report.message
    assert "AWS_ACCESS_KEY_ID" in report.message


def test_a_missing_bucket_and_a_missing_folder_are_told_apart(s3: S3, run: Run, base: Path, adapter: Path) -> None:
    source = s3.upload(adapter)
    for uri, reason, sentence in (
        (
            "s3://no-such-bucket/base",
            "BucketNotFound",
            'the store has no bucket "no-such-bucket": create it or correct',
        ),
        ("s3://models/no-such-folder", "SourceNotFound", "no-such-folder is not there or holds no files: upload"),
    ):
        report = run("inspect", "--base", f"{uri},credentials={s3.secret(ADMIN)}", "--adapter", source)
        assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, reason)
        assert sentence in report.message
    artifacts = f"s3://no-such-bucket/built,credentials={s3.secret(ADMIN)}"
    report = run("merge", "--base", s3.upload(base), "--adapter", source, "--artifacts", artifacts)
    assert report.reason == "BucketNotFound"


def test_artifacts_that_may_not_be_written_are_refused_before_anything_is(
    s3: S3, run: Run, base: Path, adapter: Path
) -> None:
    artifacts = s3.artifacts.partition(",")[0] + f",credentials={s3.secret(READER)}"
    report = run("merge", "--base", s3.upload(base), "--adapter", s3.upload(adapter), "--artifacts", artifacts)
    assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, "AccessDenied")


def test_an_unreachable_store_is_worth_a_retry(
    s3: S3, run: Run, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    secret = s3.secret(READER, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    report = run("inspect", "--base", f"s3://models/base,credentials={secret}", "--adapter", s3.upload(adapter))
    assert (report.outcome, report.reason) == (Outcome.FAILED, "StoreUnavailable")


@pytest.mark.parametrize(("uri", "key"), [("s3://models/base", "AWS_ENDPOINT_URL"), ("hf://org/name", "HF_ENDPOINT")])
def test_an_endpoint_that_is_no_url_is_refused_by_its_key(
    run: Run, adapter: Path, tmp_path: Path, uri: str, key: str
) -> None:
    secret = write_secret(tmp_path, {key: "minio:9000"})
    report = run("inspect", "--base", f"{uri},credentials={secret}", "--adapter", adapter.as_uri())
    assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, "InvalidURI"), report.message
    assert f"write {key} as https://host[:port]" in report.message


def test_a_folder_that_may_not_be_read_is_access_denied(run: Run, base: Path, adapter: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    artifacts.write_bytes(b"a file where a folder must be")
    place = Disk(tmp_path)
    report = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", place.artifacts)
    assert report.outcome is not Outcome.DONE
    assert report.reason != "InternalError"


def test_hf_cannot_hold_artifacts(run: Run, base: Path, adapter: Path) -> None:
    report = run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", "hf://org/name")
    assert report.reason == "InvalidURI"
    assert 'artifacts "hf://org/name" cannot be written to: write s3://bucket/prefix' in report.message
