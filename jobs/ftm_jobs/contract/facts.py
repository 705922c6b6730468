"""Facts of a base and its adapters that the inspect step learns from configs and safetensors headers alone."""

from collections.abc import Sequence

from ftm_jobs.contract.base import Contract

ENCODERS = ("visual", "vision", "image", "multi_modal", "mm_", "audio", "connector")
"""Beginnings of parts of names, of tensors that belong to an encoder of images or sounds, or join it to the model."""


BEYOND = "+"
"""In a tensor group's name, what comes after the decoder and only speculation loads: a layer's number, or mtp."""


class TensorGroup(Contract):
    """Tensors that are alike: one per layer, or one per layer and expert."""

    name: str
    """The name that they share, with `*` for each number in it: model.layers.*.self_attn.q_proj.weight."""
    shape: tuple[int, ...]
    """The shape of each."""
    dtype: str
    """safetensors' name of the dtype of each: BF16."""
    count: int
    """Number of such tensors."""


class BaseFacts(Contract):
    """Facts of a base model, from its configs and safetensors headers; no weights are read."""

    uri: str
    """The URI as it was resolved: an hf:// URI carries the commit."""
    digest: str
    """`sha256:…` over names, sizes and content identities of the files that a merge reads or copies."""
    architecture: str | None = None
    """The class that config.json names, LlamaForCausalLM; absent if it names none."""
    model_type: str
    """The family that config.json names: llama."""
    dtype: str
    """safetensors' name of the dtype that holds most bytes: BF16, F16, F32."""
    parameters: int
    """Numbers in the weights, tied ones counted once."""
    weight_bytes: int
    """Bytes of all tensors."""
    layers: int | None = None
    """Number of decoder layers; as each number below, absent if neither config.json nor the family's class says."""
    hidden_size: int | None = None
    """Width of the residual stream."""
    intermediate_size: int | None = None
    """Width inside an MLP, the largest where layers differ."""
    attention_heads: int | None = None
    """Query heads per layer; a model without attention has none."""
    key_value_heads: int | None = None
    """Key and value heads per layer; fewer than query heads with grouped-query attention."""
    head_size: int | None = None
    """Width of one head."""
    vocabulary_size: int | None = None
    """Rows of the embedding."""
    max_position_embeddings: int
    """The longest context that the model was made for, in tokens."""
    tied_embeddings: bool
    """True when the output layer shares the embedding's weights."""
    tensors: tuple[TensorGroup, ...] | None = None
    """All tensors of the weight files, alike ones together; absent if an older version inspected the model."""
    config: dict[str, str] | None = None
    """The fields of config.json that planning reads: JSON by dotted name, as in text_config.num_hidden_layers.
    Absent if an older version looked."""


class AdapterFacts(Contract):
    """Facts of an adapter, from adapter_config.json and its safetensors header."""

    uri: str
    """The URI as it was resolved: an hf:// URI carries the commit."""
    digest: str
    """`sha256:…` over names, sizes and content identities of the files that a merge reads."""
    rank: int
    """The inner width of the low-rank matrices; the largest that its config names, where layers differ."""
    alpha: float
    """PEFT's lora_alpha."""
    scaling: float
    """alpha / rank, or alpha / sqrt(rank) with rsLoRA; a source's scale is not included."""
    target_modules: tuple[str, ...]
    """Last components of the names of the adapted layers, sorted: q_proj, v_proj, …"""
    layers_adapted: int
    """Number of weight matrices that the adapter changes."""
    dtype: str
    """safetensors' name of the dtype that holds most bytes."""
    weight_bytes: int
    """Bytes of all tensors."""
    kinds: tuple[str, ...] | None = None
    """The kinds of change in the adapter: LoRA, DoRA, Bias, Embedding, Experts, Modules, Tokens."""
    dynamic_objections: tuple[str, ...] | None = None
    """Reasons why vLLM cannot serve the adapter unmerged; empty if it can."""


class Facts(Contract):
    """Facts of all sources, as the inspect step learned them."""

    base: BaseFacts
    """The base model."""
    adapters: tuple[AdapterFacts, ...]
    """The adapters, in the order they are applied."""


def of_encoder(tensor: str) -> bool:
    """Says whether a tensor, by its name, is outside of the language model: those are neither quantized nor padded."""
    return any(part.startswith(ENCODERS) for part in tensor.split("."))


def holds_experts(tensor: str, shape: Sequence[int]) -> bool:
    """Says whether a tensor, by its name, holds a matrix of each expert of a layer; AWQ's engines do not read those."""
    return len(shape) == 3 and any(part.endswith(("experts", "moe")) for part in tensor.split("."))
