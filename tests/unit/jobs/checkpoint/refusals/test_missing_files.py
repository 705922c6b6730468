"""Why a folder is no base or no adapter: what it holds instead, and what to name or to do."""

from pathlib import Path

import pytest

from ftm_jobs.checkpoint.refusals.missing_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE_WEIGHTS,
    CONFIG,
    Contents,
    missing_adapter_file,
    missing_base_file,
)
from ftm_jobs.checkpoint.sources import load_adapter, load_base
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source, parse_uri

URI = "s3://models/x"
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
ADAPTER_SHARDS = [f"adapter_{name}" for name in SHARDS]


@pytest.mark.parametrize(
    ("files", "wanted", "reason", "sentence"),
    [
        ([], CONFIG, Reason.MISSING_FILE, "s3://models/x has no config.json: upload it or correct the URI"),
        ([CONFIG], BASE_WEIGHTS, Reason.MISSING_FILE, "has no model.safetensors: upload it or correct the URI"),
        ([BASE_WEIGHTS], CONFIG, Reason.MISSING_FILE, "has model.safetensors but no config.json: copy it from"),
        (
            [CONFIG, *SHARDS],
            BASE_WEIGHTS,
            Reason.MISSING_FILE,
            "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors but no model.safetensors.index.json",
        ),
        (
            [CONFIG, SHARDS[0]],
            BASE_WEIGHTS,
            Reason.MISSING_FILE,
            "00001-of-00002.safetensors, but of 2 files of weights not model-00002-of-00002.safetensors: upload",
        ),
        ([CONFIG, "pytorch_model.bin"], BASE_WEIGHTS, Reason.PICKLE_WEIGHTS, "has its weights in pytorch_model.bin"),
        ([CONFIG, "x.safetensors"], BASE_WEIGHTS, Reason.MISSING_FILE, "but x.safetensors: rename it if it is that"),
        ([CONFIG, "model.gguf"], BASE_WEIGHTS, Reason.UNSUPPORTED_BASE, "holds model.gguf, which is GGUF"),
        (
            ["params.json", "consolidated.safetensors"],
            CONFIG,
            Reason.UNSUPPORTED_BASE,
            "holds consolidated.safetensors and params.json, a model in Mistral's own format, whose layers and tensors",
        ),
        (
            [CONFIG, "params.json", *(f"consolidated-0000{number}-of-00002.safetensors" for number in (1, 2))],
            BASE_WEIGHTS,
            Reason.UNSUPPORTED_BASE,
            "name a copy in transformers' format, with config.json and model.safetensors or its shards",
        ),
        (["consolidated.safetensors"], CONFIG, Reason.UNSUPPORTED_BASE, "a model in Mistral's or Meta's own format"),
        (
            ["params.json", "consolidated.safetensors", *SHARDS],
            CONFIG,
            Reason.MISSING_FILE,
            "has model-00001-of-00002.safetensors but no config.json: copy it from",
        ),
        (["model_index.json"], CONFIG, Reason.UNSUPPORTED_BASE, "is a Diffusers pipeline"),
        (["flax_model.msgpack", CONFIG], BASE_WEIGHTS, Reason.UNSUPPORTED_BASE, "Flax's format"),
        (
            [ADAPTER_CONFIG, ADAPTER_WEIGHTS],
            CONFIG,
            Reason.MISSING_FILE,
            "not a base model: name as the base the model that it was trained on, hf://org/base",
        ),
        ([ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG], BASE_WEIGHTS, Reason.MISSING_FILE, "is an adapter"),
    ],
)
def test_a_folder_that_is_no_base_is_told_by_what_it_holds(
    files: list[str], wanted: str, reason: Reason, sentence: str
) -> None:
    error = missing_base_file(Contents(URI, files), wanted, "org/base")
    assert error.reason is reason
    assert sentence in error.message


@pytest.mark.parametrize(
    ("files", "wanted", "reason", "sentence"),
    [
        ([], ADAPTER_CONFIG, Reason.MISSING_FILE, "has no adapter_config.json: upload it or correct the URI"),
        ([ADAPTER_WEIGHTS], ADAPTER_CONFIG, Reason.MISSING_FILE, "which says rank and alpha: copy it from where"),
        (
            [ADAPTER_CONFIG, *ADAPTER_SHARDS],
            ADAPTER_WEIGHTS,
            Reason.UNSUPPORTED_ADAPTER,
            "has the adapter in several files, adapter_model-00001-of-00002.safetensors",
        ),
        ([ADAPTER_CONFIG, "adapter_model.bin"], ADAPTER_WEIGHTS, Reason.PICKLE_WEIGHTS, "adapter_model.bin, a pickle"),
        ([ADAPTER_CONFIG, "adapters.safetensors"], ADAPTER_WEIGHTS, Reason.UNSUPPORTED_ADAPTER, "as MLX writes it"),
        ([CONFIG, BASE_WEIGHTS], ADAPTER_CONFIG, Reason.MISSING_FILE, "is a whole model (config.json), not an adapter"),
        (["pytorch_lora_weights.safetensors"], ADAPTER_CONFIG, Reason.UNSUPPORTED_ADAPTER, "of a Diffusers pipeline"),
        (["lora.gguf"], ADAPTER_CONFIG, Reason.UNSUPPORTED_ADAPTER, "holds lora.gguf, an adapter for llama.cpp"),
    ],
)
def test_a_folder_that_is_no_adapter_is_told_by_what_it_holds(
    files: list[str], wanted: str, reason: Reason, sentence: str
) -> None:
    error = missing_adapter_file(Contents(URI, files), wanted)
    assert error.reason is reason
    assert sentence in error.message


def test_folders_in_the_folder_are_named_with_the_uri_of_the_last() -> None:
    below = [f"{folder}/{ADAPTER_CONFIG}" for folder in ("checkpoint-1000", "checkpoint-500", "checkpoint-50")]
    message = missing_adapter_file(Contents(URI, [], [*below, "logs/x"]), ADAPTER_CONFIG).message
    assert message == (
        "s3://models/x has no adapter_config.json; its folders checkpoint-50, checkpoint-500, checkpoint-1000 have it: "
        "name s3://models/x/checkpoint-1000"
    )
    message = missing_base_file(Contents(URI, ["README.md"], ["model/config.json"]), CONFIG).message
    assert message == "s3://models/x has no config.json; its folder model has it: name s3://models/x/model"


def test_a_folder_in_a_hub_repository_has_no_uri_and_is_downloaded() -> None:
    contents = Contents("hf://org/name@1a2b", ["README.md"], [f"mine/{ADAPTER_CONFIG}"])
    assert missing_adapter_file(contents, ADAPTER_CONFIG).message.endswith(
        "its folder mine has it, which an hf:// URI cannot name: download one "
        '(hf download org/name --include "mine/*") and name that folder'
    )


def test_an_adapter_in_a_folder_of_its_source_is_named_with_its_uri(tmp_path: Path) -> None:
    for name in ("checkpoint-5", "checkpoint-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ADAPTER_CONFIG).write_text("{}")
    store, source = FileStore(tmp_path), Source(parse_uri(tmp_path.as_uri()))
    with pytest.raises(InvalidInput, match=rf"name {tmp_path.as_uri()}/checkpoint-10$"):
        load_adapter(store, source)
    with pytest.raises(InvalidInput, match=r"has no config.json: upload it or correct the URI$"):
        load_base(store, source)
