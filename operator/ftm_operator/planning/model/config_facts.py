"""Derives facts of a model whose config.json is all there is: the architecture says what its weight files will hold.

So a model can be planned before anything is downloaded. The tensors have the names and shapes of the checkpoint that
transformers saves, except that projections which a family stores fused (qkv_proj, gate_up_proj) are listed one by one:
their bytes are the same. Widths are (outputs, inputs). A quantized config gives the 16-bit tensors, since
`Architecture.quantization` says how they are packed.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from ftm_jobs.contract.config import architecture_config, read_config
from ftm_jobs.contract.config_fields import config_class, text_fields, text_type
from ftm_jobs.contract.facts import BaseFacts, TensorGroup
from ftm_operator.planning.model.architecture import Architecture, architecture
from ftm_operator.planning.model.config_encoders import encoders
from ftm_operator.planning.model.config_modules import decoder, embeddings

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""config.json's names and safetensors'."""
DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


def facts_of_config(uri: str, digest: str, config: Mapping[str, Any]) -> BaseFacts:
    """Returns the facts, tensors included. Raises UnreadableConfig, naming the field that is missing or wrong."""
    plain = plain_facts(uri, digest, config)
    model = architecture(plain)
    tensors = tuple(tensors_of(model, config))
    size = sum(prod(each.shape) * each.count * DTYPE_BYTES[each.dtype] for each in tensors)
    parameters = sum(prod(each.shape) * each.count for each in tensors)
    return plain.model_copy(update={"tensors": tensors, "weight_bytes": size, "parameters": parameters})


def tensors_of(model: Architecture, config: Mapping[str, Any]) -> Iterable[TensorGroup]:
    """Yields all tensors of the checkpoint, alike ones together."""
    text = text_fields(config)
    for name, shape, count in (*embeddings(model, text), *decoder(model, text), *encoders(model, config)):
        yield TensorGroup(name=name, shape=shape, dtype=model.dtype, count=count)


def plain_facts(uri: str, digest: str, config: Mapping[str, Any]) -> BaseFacts:
    """Returns the facts that config.json holds itself, without tensors. Raises UnreadableConfig."""
    model = read_config(config)
    tied = model.tied_embeddings
    return BaseFacts(
        uri=uri,
        digest=digest,
        architecture=model.architecture,
        model_type=model.model_type,
        dtype=DTYPES.get(model.dtype or "bfloat16", "BF16"),
        parameters=0,
        weight_bytes=0,
        layers=model.layers,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        attention_heads=model.attention_heads,
        key_value_heads=model.key_value_heads,
        head_size=model.head_size,
        vocabulary_size=model.vocabulary_size,
        max_position_embeddings=model.max_position_embeddings,
        tied_embeddings=_tied_by_default(config) if tied is None else tied,
        config=architecture_config(config),
    )


def _tied_by_default(config: Mapping[str, Any]) -> bool:
    """Says whether the family's class ties the embeddings where config.json does not say."""
    found = config_class(config.get("model_type")) or config_class(text_type(config))
    return bool(found and found.defaults.get("tie_word_embeddings"))
