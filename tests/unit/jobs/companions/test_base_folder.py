"""A base's files are taken, plainly irrelevant, or named in a note; digests know the rule of earlier versions."""

import pytest

from ftm_jobs.companions.base_folder import (
    is_companion,
    is_irrelevant,
    left_out_note,
    listed,
    model_folders,
    was_companion,
)


@pytest.mark.parametrize(
    "name",
    [
        *("vocab.bpe", "bpe.codes", "source.spm", "target.spm", "dict.vocab", "prophetnet.tokenizer"),
        *("tokenizer.model.v3", "tokenizer.model.v7m1"),
    ],
)
def test_kinds_of_tokenizer_files_are_taken_that_earlier_versions_left_behind(name: str) -> None:
    assert is_companion(name)
    assert not was_companion(name)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.model",
        "sentencepiece.bpe.model",
        "chat_template.jinja",
        "merges.txt",
        "a.py",
        "LICENSE",
    ],
)
def test_what_earlier_versions_took_is_taken(name: str) -> None:
    assert is_companion(name)
    assert was_companion(name)
    assert not was_companion(f"1_Pooling/{name}")


@pytest.mark.parametrize("name", ["adapter_config.json", "manifest.json", "pytorch_model.bin.index.json", "model.gguf"])
def test_what_is_not_of_the_merged_model_is_not_taken(name: str) -> None:
    assert not is_companion(name)


def test_folders_belong_to_a_model_when_transformers_or_modules_json_names_them() -> None:
    there = {"1_Pooling", "additional_chat_templates", "custom_generate", "onnx", "original"}
    read = {"additional_chat_templates", "custom_generate"}
    assert model_folders(there, None) == read
    modules = b'[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense/a"}, {"path": 3}, 4]'
    assert model_folders(there, modules) == read | {"1_Pooling"}
    for broken in (b"{}", b"[", b"\xff", b"[" * 100_000, b'[{"path": "../onnx"}]'):
        assert model_folders(there, broken) == read


def test_what_is_left_out_is_named_once_and_what_nobody_reads_is_not() -> None:
    files = [
        *("config.json", "model.safetensors", "README.md", "photo.png", "training_args.bin", "optimizer.pt"),
        *("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json"),
    ]
    taken = {"config.json", "model.safetensors", "1_Pooling/config.json"}
    note = left_out_note("s3://m/base", files, {"1_Pooling", "onnx", "runs"}, taken)
    assert note == "left out of the merged model, of s3://m/base: onnx/, pytorch_model-*.bin"
    assert left_out_note("s3://m/base", files[:6], {"1_Pooling", "runs"}, taken) is None


def test_of_many_names_the_first_few_and_their_number_are_told() -> None:
    assert listed(f"{name}.bin" for name in "abcdefgh") == "a.bin, b.bin, c.bin, d.bin, e.bin, f.bin and 2 more"


@pytest.mark.parametrize("name", ["model.gguf", "original.pth", "params.json", "model.onnx", "anything"])
def test_an_unknown_file_is_not_taken_for_irrelevant(name: str) -> None:
    assert not is_irrelevant(name)
