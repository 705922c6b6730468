"""Parses a base's config.json. Pure: its text or its content comes in."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftm_jobs.contract.config import TEXT_OBJECTS
from ftm_jobs.errors import InvalidInput, Reason

CONFIG_FILE = "config.json"

CONV1D_MODEL_TYPES = {"clvp", "decision_transformer", "gpt2", "imagegpt", "openai-gpt"}
"""Their layers are Conv1D, whose weight is stored transposed."""


@dataclass(frozen=True)
class BaseConfig:
    architecture: str
    model_type: str
    layers: int
    hidden_size: int
    intermediate_size: int | None
    attention_heads: int
    key_value_heads: int
    head_size: int
    vocabulary_size: int
    max_position_embeddings: int
    tied_embeddings: bool | None
    """None when config.json does not say."""
    content: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    """All of config.json."""


def parse_json(what: str, text: bytes, reason: Reason = Reason.INVALID_CONFIG) -> dict[str, Any]:
    """Raises InvalidInput with `reason`; `what` is how the message names the file."""
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(reason, f"{what} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(reason, f"{what} is not a JSON object")
    return found


def parse_base_config(what: str, config: Mapping[str, Any]) -> BaseConfig:
    """Raises InvalidInput (InvalidConfig) naming the field."""
    text = text_config(config)
    if not isinstance(text, Mapping):
        raise InvalidInput(Reason.INVALID_CONFIG, f"{what} has a {text_object(config)} that is not an object")
    fields = _Fields(what, text)
    hidden, heads = (
        fields.required("hidden_size", "n_embd", "d_model"),
        fields.required("num_attention_heads", "n_head", "n_heads"),
    )
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    model_type = config.get("model_type")
    if not isinstance(architecture, str) or not isinstance(model_type, str):
        raise InvalidInput(
            Reason.INVALID_CONFIG, f"{what} names no architectures or no model_type: copy them from the base's page"
        )
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    return BaseConfig(
        architecture=architecture,
        model_type=model_type,
        layers=fields.required("num_hidden_layers", "n_layer", "n_layers"),
        hidden_size=hidden,
        intermediate_size=fields.optional("intermediate_size", "n_inner", "ffn_dim"),
        attention_heads=heads,
        key_value_heads=fields.optional("num_key_value_heads", "num_kv_heads", "n_head_kv")
        or (1 if is_multi_query(text) else heads),
        head_size=fields.optional("head_dim") or hidden // heads,
        vocabulary_size=fields.required("vocab_size"),
        max_position_embeddings=fields.optional("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
        or 0,
        tied_embeddings=tied if isinstance(tied, bool) else None,
        content=config,
    )


def text_object(config: Mapping[str, Any]) -> str | None:
    """The name of the object that describes the language model; None: config.json itself does."""
    return next((name for name in TEXT_OBJECTS if config.get(name)), None)


def text_config(config: Mapping[str, Any]) -> Any:
    """What describes the language model: a mapping, in a config.json that is sound."""
    name = text_object(config)
    return config if name is None else config[name]


def is_multi_query(text: Mapping[str, Any]) -> bool:
    """Whether all query heads share one key-value head (Falcon-7B), which config.json says in its own way."""
    return text.get("multi_query") is True and not text.get("new_decoder_architecture")


@dataclass(frozen=True)
class _Fields:
    what: str
    config: Mapping[str, Any]

    def optional(self, *names: str) -> int | None:
        """The first of the names that is set."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
                raise InvalidInput(
                    Reason.INVALID_CONFIG, f"{self.what}: {name} is {str(value)[:100]!r}, not a positive number"
                )
            return value
        return None

    def required(self, *names: str) -> int:
        value = self.optional(*names)
        if value is None:
            raise InvalidInput(Reason.INVALID_CONFIG, f"{self.what} has no {names[0]}: copy it from the base's page")
        return value
