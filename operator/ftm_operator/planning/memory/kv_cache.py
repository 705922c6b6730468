"""Counts the bytes of KV cache that each rank of vLLM needs for sequences of a given length.

A page holds `block` tokens of one layer:

    keys and values    block · max(1, kv_heads / tp) · 2 · head_size · bytes      replicated when tp > kv_heads
    latent (MLA)       block · (kv_lora_rank + qk_rope_head_dim) · bytes          the same on each rank
    latent (MLA), fp8, with an index: a scale for each 128 of the rank, and the rest in 16 bits
    index              block · (index_head_dim + 4 for each 128 of it)            beside the latent

and a sequence of `context` tokens holds, of each layer that attends so,

    full       ceil(context / block) pages
    sliding    ceil(min(window - 1 + in flight, context) / block) + 1 pages
    chunked    ceil(min(window + in flight, context) / block) pages
    state      with prefix caching two pages, or three where prefill leaves a state on its way, else one

A page of a state is as large as the state: its convolution in the dtype of --mamba-cache-dtype or of serving, whatever
the cache's is, and its recurrent part in the dtype that --mamba-ssm-cache-dtype, config.json or the family says, or
likewise.

Where kinds have pages of several sizes (Gemma 4), the smaller hold as many tokens more as fill the largest, if that is
a whole number of times as large, and are padded if not. Layers that read another's keys and values have no pages.

Here `in flight` is what may be scheduled at once, two batches under asynchronous scheduling, or stages + 1.
Layers of several kinds share one pool of equal blocks: they are put in groups of as many layers as the rarest kind
has (or the most common, if it has less than half as many more), a block holds a page of each layer of a group, and a
sequence takes blocks for each group. One block of the pool is never used. Where layers keep a state, CUDA graphs need
a block for each of --max-num-seqs (config/compilation.py, resolve_cudagraph_mode_and_sizes).
Source: v1/kv_cache_interface.py, v1/core/kv_cache_utils.py and config/vllm.py of vLLM.

Example: Mistral-7B-v0.1, fp16, tp 1: 32 layers of 4096 bytes, 128 KiB per token; 4 GiB for 8 sequences of 4096.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil

from ftm_operator.planning.memory.weights import DTYPE_BYTES, stage_layers
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.layer_attention import FULL, LayerAttention

BLOCK_TOKENS = 16
"""vLLM's default. Source: config/cache.py, DEFAULT_BLOCK_SIZE."""
LATENT_BLOCK_TOKENS = 64
"""FlashMLA's. Source: v1/attention/backends/mla/flashmla.py."""
LATENT_ALIGNMENT = 128
"""Blocks of latents beside states are multiples of it. Source: platforms/interface.py, _align_hybrid_block_size."""
SCALED = 128
"""Numbers of a quantized vector that share a scale of SCALE_BYTES."""
SCALE_BYTES = 4


@dataclass(frozen=True)
class CacheOptions:
    """Choices of an engine that change its cache."""

    block_tokens: int | None = None
    """None: vLLM's own on a GPU."""
    serving_dtype: str | None = None
    """The dtype of serving, in which states are kept; None: that of the cache."""
    recurrent_dtype: str | None = None
    """--mamba-ssm-cache-dtype; None: what the model says."""
    convolution_dtype: str | None = None
    """--mamba-cache-dtype; None: that of serving."""
    prefix_caching: bool = True
    graph_sequences: int = 0
    """--max-num-seqs where CUDA graphs are captured; 0: there are none."""


DEFAULTS = CacheOptions()


@dataclass(frozen=True)
class KVCache:
    """The blocks of one rank's cache, and how layers share them."""

    block_tokens: int
    pool_block_bytes: int
    """Bytes of one block of the pool: a page of each layer of a group."""
    groups: tuple[tuple[LayerAttention, int], ...]
    """The attention of each group's layers, with the number of such groups."""
    in_flight: int
    """Tokens that may be scheduled and not yet freed."""
    state_blocks: int = 1
    """Blocks that a sequence takes for each group of layers that keep a state."""
    more_tokens: Mapping[LayerAttention, int] = field(default_factory=dict)
    """For layers whose pages are smaller than others': the times as many tokens that a block holds."""
    least_blocks: int = 0
    """Blocks without which the engine does not start."""

    def sequence_blocks(self, context: int) -> int:
        """Returns the blocks of the pool that one sequence of `context` tokens takes."""
        return sum(count * self._group_blocks(attention, context) for attention, count in self.groups)

    def needed_bytes(self, sequences: int, context: int) -> int:
        """Returns the bytes for so many sequences at that length at once, and the block that is never used."""
        return max(sequences * self.sequence_blocks(context) + 1, self.least_blocks) * self.pool_block_bytes

    def tokens(self, available_bytes: int, context: int) -> int:
        """Returns the tokens of sequences at that length that fit at once."""
        blocks = available_bytes // self.pool_block_bytes - 1
        return max(0, blocks * context // max(1, self.sequence_blocks(context)))

    def _group_blocks(self, attention: LayerAttention, context: int) -> int:
        if attention.kind == "state":
            return self.state_blocks
        tokens = self.block_tokens * self.more_tokens.get(attention, 1)
        if attention.kind == "sliding":
            held = min(attention.window - 1 + self.in_flight, context)
            return ceil(held / tokens) + 1
        held = min(attention.window + self.in_flight, context) if attention.kind == "chunked" else context
        return ceil(held / tokens)


def kv_cache(
    model: Architecture, tp: int, pp: int, dtype: str, batched_tokens: int, options: CacheOptions = DEFAULTS
) -> KVCache:
    """Returns the cache of the rank that holds most layers; `dtype` is the cache's own."""
    sizes = {each: layer_token_bytes(model, tp, dtype, attention=each) for each, _ in model.kept}
    token_bytes = max(sizes.values())
    block = options.block_tokens or (LATENT_BLOCK_TOKENS if model.is_latent and not model.state else BLOCK_TOKENS)
    state_bytes = _state_bytes(model, tp, dtype, options)
    if state_bytes:  # a page of attention is made as large as a state
        unit = max(block, LATENT_ALIGNMENT) if model.is_latent else block
        block = max(1, ceil(state_bytes / (unit * token_bytes))) * unit
    per_group, groups = _groups(model.kept)
    held = ceil(per_group * max(stage_layers(model.layers, pp)) / model.layers)
    return KVCache(
        block,
        held * block * token_bytes + _index_bytes(model, pp) * block,
        groups,
        (pp + 1) * batched_tokens,
        state_blocks=2 + model.state.checkpoints if model.state and options.prefix_caching else 1,
        more_tokens={each: token_bytes // size for each, size in sizes.items() if token_bytes % size == 0},
        least_blocks=options.graph_sequences if state_bytes else 0,
    )


def layer_token_bytes(
    model: Architecture, tp: int, dtype: str, *, attention: LayerAttention = FULL, keeps_latent: bool = True
) -> int:
    """Returns the bytes of one token in one layer that attends so on one rank, without its index.

    `keeps_latent`: whether the engine keeps the latent, where the model has one, instead of keys and values.
    """
    if model.latent and keeps_latent:
        rank, rope = model.latent.key_value_rank, model.latent.rope_width
        if model.indexer and dtype == "fp8":
            return rank + ceil(rank / SCALED) * SCALE_BYTES + rope * DTYPE_BYTES["bfloat16"]
        return (rank + rope) * DTYPE_BYTES[dtype]
    heads, size = model.heads_of(attention)
    return max(1, heads // tp) * 2 * size * DTYPE_BYTES[dtype]


def _index_bytes(model: Architecture, pp: int) -> int:
    """Returns the bytes of one token in the indices of a stage's layers."""
    if not model.indexer:
        return 0
    size = model.indexer.head_size
    held = ceil(model.indexer.layers * max(stage_layers(model.layers, pp)) / model.layers)
    return held * (size + size // SCALED * SCALE_BYTES)


def _state_bytes(model: Architecture, tp: int, dtype: str, options: CacheOptions) -> int:
    if not model.state:
        return 0
    serving_dtype = options.serving_dtype or dtype
    convolution_dtype = options.convolution_dtype or serving_dtype
    recurrent_dtype = options.recurrent_dtype or model.state.recurrent_dtype or convolution_dtype
    convolution = model.state.rank_convolution(tp) * DTYPE_BYTES[convolution_dtype]
    return convolution + ceil(model.state.recurrent / tp) * DTYPE_BYTES[recurrent_dtype]


@cache
def _groups(kept: tuple[tuple[LayerAttention, int], ...]) -> tuple[int, tuple[tuple[LayerAttention, int], ...]]:
    """Returns layers per group, and each kind with its number of groups."""
    counts = [count for _, count in kept]
    fewest, most = min(counts), max(counts)
    size = most if most < 1.5 * fewest else fewest
    return size, tuple((kind, ceil(count / size)) for kind, count in kept)
