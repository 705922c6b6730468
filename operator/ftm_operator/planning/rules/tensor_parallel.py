"""Which tensor-parallel sizes vLLM accepts for a model, by its plain facts.

Each rule is one check that the engine makes at start-up, named by what fails; its docstring names the check's source
in vLLM 0.33. A rule returns None, or a Rejection whose sentence is what `kubectl describe` shows. The rules that need
a GPU, a quantization or more of the architecture are in constraints.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ftm_jobs.contract.facts import BaseFacts

VOCABULARY_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this. Source: layers/vocab_parallel_embedding.py."""


@dataclass(frozen=True)
class Rejection:
    rule: str
    reason: str


def attention_heads(model: BaseFacts, size: int) -> Rejection | None:
    """Query heads are split evenly. Source: config/model.py, verify_with_parallel_config."""
    return attention_heads_divide(model.attention_heads, size)


def key_value_heads(model: BaseFacts, size: int) -> Rejection | None:
    """Key-value heads are split evenly, or each is replicated evenly. Source: layers/linear.py, QKVParallelLinear."""
    return key_value_heads_divide(model.key_value_heads, size)


def padded_vocabulary(model: BaseFacts, size: int) -> Rejection | None:
    """The padded vocabulary is split evenly. Source: layers/vocab_parallel_embedding.py."""
    return vocabulary_divides(model.vocabulary_size, size)


def mlp_width(model: BaseFacts, size: int) -> Rejection | None:
    """The MLP's width is split evenly. Source: layers/linear.py, ColumnParallelLinear."""
    return mlp_width_divides(model.intermediate_size, size)


Rule = Callable[[BaseFacts, int], Rejection | None]
RULES: tuple[Rule, ...] = (attention_heads, key_value_heads, padded_vocabulary, mlp_width)


def rejections(model: BaseFacts, size: int) -> list[Rejection]:
    """Every rule that tensor-parallel size `size` breaks, in the order of RULES."""
    return [found for rule in RULES if (found := rule(model, size))]


def valid_sizes(model: BaseFacts, largest: int = 16) -> list[int]:
    """The sizes up to `largest` that break no rule."""
    return [size for size in range(1, largest + 1) if not rejections(model, size)]


def attention_heads_divide(heads: int, size: int) -> Rejection | None:
    if heads % size:
        return Rejection("AttentionHeads", f"{heads} attention heads do not divide by {size}")
    return None


def key_value_heads_divide(heads: int, size: int) -> Rejection | None:
    if heads % size and size % heads:
        return Rejection("KeyValueHeads", f"{heads} key-value heads neither divide by {size} nor into it")
    return None


def vocabulary_divides(vocabulary: int, size: int) -> Rejection | None:
    padded = -(-vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
    if padded % size:
        return Rejection("PaddedVocabulary", f"{vocabulary} tokens, padded to {padded}, do not divide by {size}")
    return None


def mlp_width_divides(width: int | None, size: int) -> Rejection | None:
    if width is not None and width % size:
        return Rejection("MLPWidth", f"MLP width {width} does not divide by {size}")
    return None
