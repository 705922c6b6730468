"""Edits config.json and the index where the merged model has another shape, or other files, than its base. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftm_jobs.checkpoint.configs import CONFIG_FILE
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.output_layout import OutputFile
from ftm_jobs.contract.config_fields import SPELLINGS, text_object
from ftm_jobs.merge.classifier import Classifier

_TIE = "tie_word_embeddings"


@dataclass(frozen=True)
class Documents:
    """Holds the base's files that say how its tensors are laid out."""

    config: Mapping[str, Any]
    index: Mapping[str, Any] | None


@dataclass(frozen=True)
class ConfigChanges:
    """Says what config.json has to say otherwise than the base's."""

    untied: bool = False
    vocabulary: int | None = None
    """The new size; None: it stays."""
    classifier: Classifier | None = None
    dtype: str | None = None
    """torch's name of the dtype of all weights; None: it stays."""


def edited_documents(documents: Documents, layout: Sequence[OutputFile], changes: ConfigChanges) -> dict[str, bytes]:
    """Returns the documents that differ from the base's, by name."""
    edited: dict[str, bytes] = {}
    if changes != ConfigChanges():
        edited[CONFIG_FILE] = _encoded(_config(documents.config, changes))
    if documents.index is not None and any(file.base_file is None for file in layout):
        edited[INDEX_FILE] = _encoded(_index(documents.index, layout))
    return edited


def _config(config: Mapping[str, Any], changes: ConfigChanges) -> dict[str, Any]:
    """Returns the config with no other fields changed than those that say what has changed, where they are said."""
    edited = dict(config)
    inner = text_object(edited)
    places = [edited]
    if inner is not None:
        edited[inner] = dict(edited[inner])
        places.append(edited[inner])
    if changes.untied:
        edited[_TIE] = False
        for place in places[1:]:
            if _TIE in place:
                place[_TIE] = False
    if changes.vocabulary is not None:
        for place in places:
            place |= {name: changes.vocabulary for name in SPELLINGS["vocabulary_size"] if name in place}
        if not any(name in places[-1] for name in SPELLINGS["vocabulary_size"]):  # it had its class's default
            places[-1]["vocab_size"] = changes.vocabulary
    if changes.classifier is not None:
        edited |= _labelled(edited, changes.classifier)
    return edited if changes.dtype is None else _with_dtype(edited, changes.dtype)


def _with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Returns the config, and the objects in it, with the dtype wherever they name one."""
    objects = {name: _with_dtype(value, dtype) for name, value in config.items() if isinstance(value, Mapping)}
    named = {name: dtype for name in SPELLINGS["dtype"] if isinstance(config.get(name), str)}
    return {**config, **objects, **named}


def _labelled(config: Mapping[str, Any], classifier: Classifier) -> dict[str, Any]:
    """Returns the fields of a classifier's config; the base's labels stay if there are as many of them."""
    labels = config.get("id2label")
    if not isinstance(labels, Mapping) or set(labels) != set(map(str, range(classifier.labels))):
        labels = {str(number): f"LABEL_{number}" for number in range(classifier.labels)}
    return {
        "architectures": [classifier.architecture],
        "id2label": dict(labels),
        "label2id": {str(label): int(number) for number, label in labels.items()},
        **({"num_labels": classifier.labels} if "num_labels" in config else {}),
    }


def _index(index: Mapping[str, Any], layout: Sequence[OutputFile]) -> dict[str, Any]:
    metadata = dict(index["metadata"]) if isinstance(index.get("metadata"), dict) else {}
    tensors = [(file.name, tensor) for file in layout for tensor in file.tensors]
    metadata["total_size"] = sum(tensor.size for _, tensor in tensors)
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(tensor.elements for _, tensor in tensors)
    return dict(index) | {"metadata": metadata, "weight_map": {tensor.name: file for file, tensor in tensors}}


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
