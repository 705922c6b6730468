"""Files that are something else than their names say: told by their first bytes, wherever a base or adapter is read."""

import gzip
import json
import pickle
from pathlib import Path

import pytest

from ftm_jobs.checkpoint.sources import load_adapter, load_base
from ftm_jobs.errors import InvalidInput
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source, parse_uri
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, LLAMA_CONFIG, zeros

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 1234567\n".encode()
BASE = {
    "config.json": json.dumps(LLAMA_CONFIG).encode(),
    "model.safetensors": zeros(BASE_SHAPES),
    "tokenizer.json": b"{}",
}
ADAPTER = {
    "adapter_config.json": json.dumps(ADAPTER_CONFIG).encode(),
    "adapter_model.safetensors": zeros(ADAPTER_SHAPES),
}


def refusal(folder: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    source = Source(parse_uri(folder.as_uri()))
    load = load_base if "config.json" in files else load_adapter
    with pytest.raises(InvalidInput) as caught:
        load(FileStore(folder), source)
    return caught.value.message


@pytest.mark.parametrize("name", [*BASE, *ADAPTER])
def test_a_git_lfs_pointer_is_told_by_the_files_name(name: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, (BASE if name in BASE else ADAPTER) | {name: POINTER})
    assert message == (
        f"{tmp_path.as_uri()}/{name} holds a Git LFS pointer to 1,234,567 bytes instead of the file: run "
        "`git lfs pull` where it was cloned"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: upload it again"),
        (b"<!DOCTYPE html><html>404</html>", "holds a web page"),
        (b'\n<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "holds XML, as a store answers"),
        (b'{"error": "Invalid username or password."}', "holds JSON, such as an error that a server answered"),
        (gzip.compress(zeros(ADAPTER_SHAPES)), "is compressed with gzip: unpack it"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive, as torch.save writes it"),
        (pickle.dumps({"a": 1}, protocol=2), "is a pickle, which can run code"),
        (b"GGUF" + bytes(60), "is a GGUF file"),
        (bytes(600), "begins with zeros alone"),
        (zeros(ADAPTER_SHAPES)[:-1], "it is cut short: upload it again"),
    ],
)
def test_what_stands_in_the_place_of_weights_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, ADAPTER | {"adapter_model.safetensors": content})
    assert message.startswith(f"{tmp_path.as_uri()}/adapter_model.safetensors ")
    assert sentence in message


def test_a_config_that_was_cut_is_not_taken_for_a_servers_answer(tmp_path: Path) -> None:
    message = refusal(tmp_path, ADAPTER | {"adapter_config.json": ADAPTER["adapter_config.json"][:-4]})
    assert "adapter_config.json is not JSON: " in message


def test_what_zero_3_left_without_numbers_says_how_to_save_it(tmp_path: Path) -> None:
    empty = zeros({name: (dtype, (0,)) for name, (dtype, _) in ADAPTER_SHAPES.items()})
    message = refusal(tmp_path, ADAPTER | {"adapter_model.safetensors": empty})
    assert "adapter_model.safetensors has no numbers in 2 of 2 tensors" in message
    assert "stage3_gather_16bit_weights_on_model_save" in message
    (tmp_path / "base").mkdir()
    empty = zeros({name: (dtype, (0,)) for name, (dtype, _) in BASE_SHAPES.items()})
    assert "has no numbers in 4 of 4 tensors" in refusal(tmp_path / "base", BASE | {"model.safetensors": empty})
