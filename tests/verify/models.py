"""Folders of models as verification reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from ftm_jobs.checkpoint.weight_files import read_headers
from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.merge.inputs import Inputs, load_inputs
from ftm_jobs.merge.plan import MergeChoices
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import parse_source
from ftm_jobs.verify.tensors.sources import StoredTensors


def stored(folder: Path) -> StoredTensors:
    store = FileStore(folder)
    files = {name: size for name, size in store.list().items() if name.endswith(".safetensors")}
    return StoredTensors(store, read_headers(store, files))


def inputs_of(
    base: Path, adapters: Sequence[Path], quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION
) -> Inputs:
    sources = [parse_source(folder.as_uri(), scalable=True) for folder in adapters]
    return load_inputs(parse_source(base.as_uri()), sources, MergeChoices(quantized_base))


def whole_model(family: str, folder: Path) -> Any:
    """As transformers loads it, in fp32 from the start: some families compute constants in the dtype of loading."""
    auto: Any = AutoModelForImageTextToText if family == "llava" else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32)
