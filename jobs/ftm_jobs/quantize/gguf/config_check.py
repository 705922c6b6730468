"""Compares a GGUF file with the model's config: a converter that misreads a config says nothing.

A lost rope base or a vocabulary of another size gives a file that loads, and a model that speaks nonsense. What a
config leaves out is not compared: converters have defaults of their own, and cut rows that no token has.
Pure: the file's header and config.json's content come in.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ftm_jobs.contract.config import ModelConfig
from ftm_jobs.contract.config_fields import SPELLINGS, first_number, spellings, text_fields, text_type
from ftm_jobs.quantize.gguf.header import GgufHeader, MetadataList

DEFAULT_ROPE_BASE = 10000.0
"""llama.cpp's own, where the file has none."""
SCALED_BY_FACTOR = ("linear", "yarn", "longrope")
CHAT_TEMPLATE = "tokenizer.chat_template"


def disagreements(header: GgufHeader, config: ModelConfig, *, has_template: bool) -> list[str]:
    """Returns a clause for each disagreement; empty when both agree in all that both know."""
    content = text_fields(config.content)
    return [
        *_numbers(header, content, text_type(config.content)),
        *_vocabulary(header, first_number(content, *SPELLINGS["vocabulary_size"])),
        *_rope(header, content),
        *(
            ["it has no chat template, and the model has one"]
            if has_template and CHAT_TEMPLATE not in header.metadata
            else []
        ),
    ]


def _numbers(header: GgufHeader, content: Mapping[str, Any], model_type: object) -> Iterator[str]:
    extra = content.get("num_nextn_predict_layers")
    facts = {
        "block_count": "layers",
        "embedding_length": "hidden_size",
        "attention.head_count": "attention_heads",
        "context_length": "max_position_embeddings",
    }
    for key, fact in facts.items():
        number, said = header.number(key), first_number(content, *spellings(fact, model_type))
        beyond = extra if fact == "layers" and isinstance(extra, int) else 0
        if said and number is not None and number not in (said, said + beyond):
            yield f"its {key} is {number:g}, and the config's is {said}"


def _vocabulary(header: GgufHeader, vocabulary: int | None) -> Iterator[str]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    embedding = header.tensors.get("token_embd.weight")
    rows = embedding.weight.shape[0] if embedding else None
    if isinstance(tokens, MetadataList) and rows is not None and tokens.count != rows:
        yield f"it has {tokens.count} tokens, and embeddings of {rows}"
    if rows is not None and vocabulary and rows != vocabulary:
        yield f"it has embeddings of {rows} tokens, and the config's vocab_size is {vocabulary}"


def _rope(header: GgufHeader, content: Mapping[str, Any]) -> Iterator[str]:
    rope = content.get("rope_parameters") or content.get("rope_scaling") or {}
    rope = rope.get("full_attention", rope) if isinstance(rope, dict) else {}
    base = rope.get("rope_theta", content.get("rope_theta")) if isinstance(rope, dict) else None
    frequency = header.number("rope.freq_base") or DEFAULT_ROPE_BASE
    if isinstance(base, int | float) and not math.isclose(frequency, base, rel_tol=1e-5):
        yield f"its rope.freq_base is {frequency:g}, and the config's rope_theta is {base:g}"
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind in SCALED_BY_FACTOR and isinstance(factor, int | float):
        scaled = header.number("rope.scaling.factor")
        if scaled is None or not math.isclose(scaled, factor, rel_tol=1e-5):
            found_factor = "not there" if scaled is None else f"{scaled:g}"
            yield f"its rope.scaling.factor is {found_factor}, and the config's is {factor:g}"
    if kind == "llama3" and "rope_freqs.weight" not in header.tensors:
        yield "it has no rope_freqs.weight, and the config's rope_type is llama3"
