"""Reads config.json, for the Jobs and for planning alike: one class of what it says, and the fields that facts carry.

A merge asks a config.json for its model_type alone. The numbers are for sizing and serving, which say in a sentence
which of them a model lacks.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ftm_jobs.contract.config_fields import (
    CARRIED_FIELDS,
    CONFIG_OBJECTS,
    INNER_OBJECTS,
    SPELLINGS,
    largest,
    spellings,
    text_fields,
    text_object,
    text_type,
    with_defaults,
)

_LONGEST_LIST = 512
_DEEPEST_OBJECT = 4
_LARGEST_NUMBER = 2**40
_NUMBERS = [fact for fact in SPELLINGS if fact not in ("dtype", "tied_embeddings")]
_LAYER_LISTS = ("layers_block_type", "layer_types", "block_types", "hybrid_override_pattern")
"""Fields that have an item, or a letter, for each layer: classes that have them may name no number of layers."""
_MISTRAL_FIELDS = {"dim", "n_layers", "hidden_dim"}
"""Fields of a params.json, which names no model_type."""
_USUAL_NAMES = {"layers": "num_hidden_layers", "vocabulary_size": "vocab_size"}
"""config.json's usual name of each field, where it is not the first of SPELLINGS."""


TIED_AS_THEIR_LANGUAGE_MODEL = {
    *("fast_vlm", "glm4v", "glm4v_moe", "glm_ocr", "hunyuan_vl", "llava", "llava_next_video", "llava_onevision"),
    *("minimax_m3_vl", "paddleocr_vl", "qwen2_5_vl", "qwen2_vl", "video_llama_3"),
}
"""Families that are tied if their language model says so, whatever is said beside it: transformers 4 saved only that
(transformers/models, configuration_*.py)."""


class UnreadableConfig(Exception):
    """A config.json that does not say enough.

    The text follows the file's name, as in `config.json names no model_type: copy it from the model's page`.
    """


@dataclass(frozen=True)
class ModelConfig:
    """The plain facts of a decoder that config.json holds."""

    architecture: str | None
    """The class that config.json names, LlamaForCausalLM; None when it names none."""
    model_type: str
    """The family that config.json names: llama."""
    layers: int | None
    """Layers of the decoder; as all the numbers, None when neither config.json nor the family's class says."""
    hidden_size: int | None
    intermediate_size: int | None
    """The largest, where layers differ."""
    attention_heads: int | None
    key_value_heads: int | None
    head_size: int | None
    vocabulary_size: int | None
    """Rows of the embedding."""
    max_position_embeddings: int
    """In tokens; 0 when config.json does not say."""
    tied_embeddings: bool | None
    """None when config.json does not say."""
    dtype: str | None
    """torch's name of it, as in bfloat16; None when config.json does not say."""
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All of config.json."""


def read_config(config: Mapping[str, Any]) -> ModelConfig:
    """Reads a parsed config.json. Raises UnreadableConfig, naming the field that is missing or wrong."""
    inner = text_object(config)
    if inner is not None and not isinstance(config[inner], Mapping):
        raise UnreadableConfig(f"has a {inner} that is not an object")
    text = text_fields(with_defaults(config))
    architectures, model_type = config.get("architectures"), config.get("model_type")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(model_type, str):
        if config.keys() >= _MISTRAL_FIELDS:
            raise UnreadableConfig("is a params.json, of Mistral's own format: give the model's config.json instead")
        raise UnreadableConfig("names no model_type: copy it from the model's page")
    numbers = {fact: _number(text, spellings(fact, text_type(config))) for fact in _NUMBERS}
    hidden_size, heads = numbers["hidden_size"], numbers["attention_heads"]
    (tied_name,) = SPELLINGS["tied_embeddings"]
    tied, inside = config.get(tied_name), text.get(tied_name)
    if tied is None or (inside is True and model_type in TIED_AS_THEIR_LANGUAGE_MODEL):
        tied = inside
    dtype = next((text[name] for name in SPELLINGS["dtype"] if isinstance(text.get(name), str)), None)
    return ModelConfig(
        architecture=architecture if isinstance(architecture, str) else None,
        model_type=model_type,
        layers=numbers["layers"] or _listed_layers(text),
        hidden_size=hidden_size,
        intermediate_size=numbers["intermediate_size"],
        attention_heads=heads,
        key_value_heads=numbers["key_value_heads"] or (1 if _is_multi_query(text) else heads),
        head_size=numbers["head_size"] or (hidden_size // heads if hidden_size and heads else None),
        vocabulary_size=numbers["vocabulary_size"],
        max_position_embeddings=numbers["max_position_embeddings"] or 0,
        tied_embeddings=tied if isinstance(tied, bool) else None,
        dtype=dtype.removeprefix("torch.") if dtype else None,
        content=config,
    )


def lacks(fact: str, purpose: str) -> str:
    """Returns the sentence, after the file's name, of a config.json that lacks what something else than merging needs.

    `purpose` is that in a word, as in sizing.
    """
    name = _USUAL_NAMES.get(fact, SPELLINGS[fact][0])
    return (
        f"has no positive number as {name}, which {purpose} needs and merging does not: "
        "copy it from the model's page if it is there"
    )


def architecture_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the fields that planning reads, small enough for a termination message: JSON by dotted name.

    Numbers, words, truth values and lists of them; what is null is left out, and what is left out has its default.
    """
    config = with_defaults(config)
    fields = dict(_carried(config, ()))
    for name in CONFIG_OBJECTS:
        if isinstance(config.get(name), Mapping):
            fields |= _carried(config[name], (name,))
    return fields


def carried_config(fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the config.json that `architecture_config` made `fields` of, as far as they carry it.

    Objects inside an object keep their dotted names, as in config_groups.group_0.weights.num_bits.
    """
    config: dict[str, Any] = {}
    for dotted, text in fields.items():
        first, _, rest = dotted.partition(".")
        if rest:
            config.setdefault(first, {})[rest] = json.loads(text)
        else:
            config[first] = json.loads(text)
    return config


def _is_multi_query(text: Mapping[str, Any]) -> bool:
    """Says whether all query heads share one key-value head (Falcon-7B), which config.json says in its own way."""
    return text.get("multi_query") is True and not text.get("new_decoder_architecture")


def _listed_layers(text: Mapping[str, Any]) -> int | None:
    lists = (text.get(name) for name in _LAYER_LISTS)
    return next((len(layers) for layers in lists if isinstance(layers, list | str) and layers), None)


def _number(text: Mapping[str, Any], names: Iterable[str]) -> int | None:
    values = (largest(text.get(name)) for name in names)
    return next((value for value in values if type(value) is int and 0 < value < _LARGEST_NUMBER), None)


def _carried(config: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in config.items():
        if name in CARRIED_FIELDS and _is_plain(value):
            fields[".".join((*path, name))] = json.dumps(value, separators=(",", ":"))
        elif isinstance(value, Mapping) and (
            name in INNER_OBJECTS or (path[:1] == ("quantization_config",) and len(path) < _DEEPEST_OBJECT)
        ):
            fields |= _carried(value, (*path, name))
    return fields


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _LONGEST_LIST and all(isinstance(item, bool | int | float | str) for item in value)
    return isinstance(value, bool | int | float | str)
