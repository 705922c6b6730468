"""A model in a folder is opened in one way, whatever it is, and brought with proof."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.artifacts.publish import publish
from ftm_jobs.checkpoint.source_files import copy_companions
from ftm_jobs.checkpoint.stored_model import bring_file, open_model, open_unquantized_model
from ftm_jobs.contract.manifest import Manifest, ManifestFile
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import parse_source
from tests.unit.jobs.files import LLAMA_CONFIG, zeros

WEIGHTS = zeros({"model.embed_tokens.weight": ("BF16", (32, 8))})


def folder(root: Path, **changes: Any) -> Path:
    """A model with a tokenizer, code and a licence."""
    root.mkdir()
    (root / "config.json").write_text(json.dumps(LLAMA_CONFIG | changes))
    (root / "model.safetensors").write_bytes(WEIGHTS)
    for name in ("tokenizer.json", "modeling.py", "LICENSE", "trainer_state.json"):
        (root / name).write_text("{}")
    return root


def make_artifact(root: Path) -> str:
    """Completes the folder as an artifact; returns its key."""
    files = [
        ManifestFile(path=path.name, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.iterdir())
    ]
    key = f"merge-{'0' * 32}"
    publish(FileStore(root), Manifest(key=key, step=Step.MERGE, recipe=2, inputs=(), files=tuple(files)))
    return key


def refusal(root: Path, options: str = "") -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        open_unquantized_model(parse_source(root.as_uri() + options))
    return caught.value


def test_a_plain_folder_and_the_artifact_made_of_it_hold_the_same_model(tmp_path: Path) -> None:
    root = folder(tmp_path / "model")
    plain = open_model(parse_source(root.as_uri()))
    assert (plain.key, plain.manifest) == (plain.digest, None)
    assert {file.path for file in plain.files} == {
        "LICENSE",
        "config.json",
        "model.safetensors",
        "modeling.py",
        "tokenizer.json",
    }
    key = make_artifact(root)
    merged = open_model(parse_source(root.as_uri()))
    assert (merged.key, merged.config, merged.weights) == (key, plain.config, plain.weights)


def test_a_gguf_file_is_a_model_and_cannot_be_quantized(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    model = open_model(parse_source(tmp_path.as_uri()))
    assert model.gguf is not None
    assert (model.gguf.path, model.headers) == ("model.gguf", ())
    assert "has no config.json" in refusal(tmp_path).message
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    assert "name a folder with one GGUF file" in refusal(tmp_path).message


def test_a_quantized_model_opens_for_verification_alone(tmp_path: Path) -> None:
    root = folder(tmp_path / "model", quantization_config={"quant_method": "awq"})
    assert open_model(parse_source(root.as_uri())).content["quantization_config"] == {"quant_method": "awq"}
    assert refusal(root).reason is Reason.UNSUPPORTED_BASE


def test_another_digest_than_the_named_one_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "model")
    wanted = f",digest=sha256:{'0' * 64}"
    assert refusal(root, wanted).reason is Reason.SOURCE_CHANGED
    make_artifact(root)
    assert "build it again" in refusal(root, wanted).message


def test_small_files_are_copied_with_proof_and_without_code(tmp_path: Path) -> None:
    root = folder(tmp_path / "model")
    make_artifact(root)
    model = open_model(parse_source(root.as_uri()))
    copy_companions(model.store, model.files, tmp_path / "small")
    assert {path.name for path in (tmp_path / "small").iterdir()} == {"LICENSE", "config.json", "tokenizer.json"}
    (root / "tokenizer.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"tokenizer\.json has sha256 .*: delete the artifact"):
        copy_companions(model.store, model.files, tmp_path / "small", of_artifact=True)


def test_a_file_of_an_artifact_that_was_damaged_is_not_brought(tmp_path: Path) -> None:
    root = tmp_path / "artifact"
    root.mkdir()
    (root / "model.gguf").write_bytes(b"GGUF")
    make_artifact(root)
    model = open_model(parse_source(root.as_uri()))
    (root / "model.gguf").write_bytes(b"GGUX")
    assert model.gguf is not None
    with pytest.raises(InvalidInput) as caught:
        bring_file(model, tmp_path, Progress("fetch", 4), model.gguf)
    assert caught.value.reason is Reason.CORRUPT_ARTIFACT
