"""Facts of a model whose config.json is all there is: what its weight files will hold, by the architecture.

So a model can be planned before anything is downloaded. The tensors have the names and shapes of the checkpoint that
transformers saves, except that projections which a family stores fused (qkv_proj, gate_up_proj) are listed one by one:
their bytes are the same. Widths are (outputs, inputs). A quantized config gives the 16-bit tensors, since
`Architecture.quantization` says how they are packed.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from ftm_jobs.contract.config import architecture_config
from ftm_jobs.contract.facts import BaseFacts, TensorGroup
from ftm_operator.planning.model.architecture import Architecture, architecture, text_fields
from ftm_operator.planning.model.config_modules import decoder, embeddings, vision_tower

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""config.json's names and safetensors'."""
DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
TIED_BY_DEFAULT = ("gemma", "falcon", "gpt2", "opt", "bloom", "mpt", "starcoder", "cohere")
"""Families whose class in transformers ties the embeddings where config.json does not say."""


class UnreadableConfig(Exception):
    """A config.json that does not say enough; the text names the field and what to do."""


def facts_of_config(uri: str, digest: str, config: Mapping[str, Any]) -> BaseFacts:
    """Raises UnreadableConfig, naming the field that is missing or wrong."""
    plain = _plain_facts(uri, digest, config)
    found = architecture(plain)
    tensors = tuple(tensors_of(found, config))
    size = sum(prod(each.shape) * each.count * DTYPE_BYTES[each.dtype] for each in tensors)
    parameters = sum(prod(each.shape) * each.count for each in tensors)
    return plain.model_copy(update={"tensors": tensors, "weight_bytes": size, "parameters": parameters})


def tensors_of(model: Architecture, config: Mapping[str, Any]) -> Iterable[TensorGroup]:
    """All tensors of the checkpoint."""
    text = text_fields(_flat(config))
    for name, shape, count in (*embeddings(model, text), *decoder(model, text), *vision_tower(model, config)):
        yield TensorGroup(name=name, shape=shape, dtype=model.dtype, count=count)


def _plain_facts(uri: str, digest: str, config: Mapping[str, Any]) -> BaseFacts:
    text = text_fields(_flat(config))
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(named, str) or not isinstance(config.get("model_type"), str):
        raise UnreadableConfig("names no architectures or no model_type: copy them from the model's page")
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    heads = _number(text, "num_attention_heads", "n_head", "n_heads")
    multi_query = text.get("multi_query") is True and not text.get("new_decoder_architecture")
    dtype = str(text.get("dtype", text.get("torch_dtype", config.get("torch_dtype", "bfloat16"))))
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    return BaseFacts(
        uri=uri,
        digest=digest,
        architecture=named,
        model_type=str(config["model_type"]),
        dtype=DTYPES.get(dtype.removeprefix("torch."), "BF16"),
        parameters=0,
        weight_bytes=0,
        layers=_number(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        hidden_size=hidden,
        intermediate_size=_optional(text, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
        attention_heads=heads,
        key_value_heads=_optional(text, "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
        or (1 if multi_query else heads),
        head_size=_optional(text, "head_dim") or hidden // heads,
        vocabulary_size=_number(text, "vocab_size", "padded_vocab_size"),
        max_position_embeddings=_optional(text, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
        or 0,
        tied_embeddings=tied if isinstance(tied, bool) else str(config["model_type"]).startswith(TIED_BY_DEFAULT),
        config=architecture_config(config),
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """One level of dotted names, as `architecture_config` writes them."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": content for inner, content in value.items()}
        else:
            flat[name] = value
    return flat


def _optional(text: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = text.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
            raise UnreadableConfig(
                f"{name} is {str(value)[:100]!r}, not a positive number: copy it from the model's page"
            )
        return value
    return None


def _number(text: Mapping[str, Any], *names: str) -> int:
    value = _optional(text, *names)
    if value is None:
        raise UnreadableConfig(f"has no {names[0]}: copy it from the model's page")
    return value
