"""Edits config.json and the index where the merged model has another shape, or other files, than its base. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftm_jobs.checkpoint.configs import CONFIG_FILE
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.output_layout import OutputFile
from ftm_jobs.contract.config_fields import SPELLINGS, text_object

_TIE = "tie_word_embeddings"


@dataclass(frozen=True)
class Documents:
    """Holds the base's files that say how its tensors are laid out."""

    config: Mapping[str, Any]
    index: Mapping[str, Any] | None


def edited_documents(
    documents: Documents, layout: Sequence[OutputFile], untied: bool, vocabulary: int | None
) -> dict[str, bytes]:
    """Returns the documents that differ from the base's, by name. `vocabulary` is the new size; None: it stays."""
    edited: dict[str, bytes] = {}
    if untied or vocabulary is not None:
        edited[CONFIG_FILE] = _encoded(_config(documents.config, untied, vocabulary))
    if documents.index is not None and any(file.base_file is None for file in layout):
        edited[INDEX_FILE] = _encoded(_index(documents.index, layout))
    return edited


def _config(config: Mapping[str, Any], untied: bool, vocabulary: int | None) -> dict[str, Any]:
    """Returns the config with no other fields changed than those that say what has changed, where they are said."""
    edited = dict(config)
    inner = text_object(edited)
    places = [edited]
    if inner is not None:
        edited[inner] = dict(edited[inner])
        places.append(edited[inner])
    if untied:
        edited[_TIE] = False
        for place in places[1:]:
            if _TIE in place:
                place[_TIE] = False
    if vocabulary is not None:
        for place in places:
            place |= {name: vocabulary for name in SPELLINGS["vocabulary_size"] if name in place}
        if not any(name in places[-1] for name in SPELLINGS["vocabulary_size"]):  # it had its class's default
            places[-1]["vocab_size"] = vocabulary
    return edited


def _index(index: Mapping[str, Any], layout: Sequence[OutputFile]) -> dict[str, Any]:
    metadata = dict(index["metadata"]) if isinstance(index.get("metadata"), dict) else {}
    tensors = [(file.name, tensor) for file in layout for tensor in file.tensors]
    metadata["total_size"] = sum(tensor.size for _, tensor in tensors)
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(tensor.elements for _, tensor in tensors)
    return dict(index) | {"metadata": metadata, "weight_map": {tensor.name: file for file, tensor in tensors}}


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
