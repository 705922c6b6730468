"""Decides whether a base's embedding and output layer are one weight, as transformers does when it loads the base.

config.json says that they are tied, or its class does by default; where the base nevertheless holds both, transformers
ties them only if they are equal (transformers/modeling_utils.py, tie_weights). Headers do not tell, so both are read,
up to where they differ, if an adapter changes one of them.
"""

import dataclasses

from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.checkpoint.embeddings import INPUT_EMBEDDINGS, OUTPUT_LAYERS
from ftm_jobs.checkpoint.headers import Header
from ftm_jobs.checkpoint.sources import StoredBase
from ftm_jobs.contract.config import ModelConfig
from ftm_jobs.contract.config_fields import SPELLINGS, config_class, text_type


def with_ties(stored: StoredBase, base: BaseTensors, adapter: Header) -> BaseTensors:
    """Returns the base with `ties_differ` set if it is told to tie two different tensors. `adapter` is to change it."""
    told = base.tied_embeddings or _tied_by_default(stored.config)
    if not told or not any(_names_embedding(name) for name in adapter.tensors):
        return base
    differ = not _equal(stored, base)
    return dataclasses.replace(base, tied_embeddings=not differ, ties_differ=differ)


def _tied_by_default(config: ModelConfig) -> bool:
    """Returns whether config.json leaves it to its class, or to that of its language model, and the class ties."""
    classes = [config_class(model_type) for model_type in (config.model_type, text_type(config.content))]
    (field,) = SPELLINGS["tied_embeddings"]
    return config.tied_embeddings is None and any(found is not None and found.defaults.get(field) for found in classes)


def _names_embedding(name: str) -> bool:
    return not {*INPUT_EMBEDDINGS, *OUTPUT_LAYERS}.isdisjoint(name.split("."))


def _equal(stored: StoredBase, base: BaseTensors) -> bool:
    """Returns whether the base holds one of the two alone, or both with the same bytes."""
    if base.embedding is None or base.output_layer is None:
        return True
    one, two = base.by_name[base.embedding], base.by_name[base.output_layer]
    if (one.tensor.dtype, one.tensor.shape) != (two.tensor.dtype, two.tensor.shape):
        return False
    for start in range(0, one.tensor.size, stored.store.block_bytes):
        size = min(stored.store.block_bytes, one.tensor.size - start)
        parts = [stored.store.read(part.file_name, part.tensor.offset + start, size) for part in (one, two)]
        if parts[0] != parts[1]:
            return False
    return True
