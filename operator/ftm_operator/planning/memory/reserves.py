"""Counts what vLLM holds of a GPU besides weights and KV cache, per rank, by measured constants with their source.

    activations    the larger of the two peaks of the profiling run (v1/worker/gpu_model_runner.py, profile_run):
        sampler    SAMPLER_BYTES · max_num_seqs · vocabulary + batched_tokens · hidden_size · bytes
        forward    batched_tokens · (4 · hidden_size + widest layer of the rank) · bytes
    CUDA graphs    GRAPH_BYTES_PER_LAYER · layers of the stage
    non-torch      NON_TORCH_BYTES; with several ranks NCCL's buffers too
    rotary         max_context · head_size · bytes: the table of angles
    slack          SLACK_BYTES: what the allocator rounds up

Measured on an H100 (79.18 GiB, max_num_seqs 1024, 8192 batched tokens), llm-d/llm-d-benchmark,
config_explorer/empirical-vllm-memory-results.md, in GiB:

                          weights  activations  predicted  non-torch  CUDA graphs
    Qwen3-0.6B     tp 1      1.12         5.56       5.57       0.13         0.10
    Llama-3.1-8B   tp 1     14.99         4.76       4.75       0.13        -0.45
    Qwen3-32B      tp 1     61.03         5.64       5.63       0.14        -0.88
    gpt-oss-20b    tp 1     13.47         7.38       7.39       0.13         0.39
    gpt-oss-120b   tp 1     64.38         7.38       7.39       0.13         1.03
    Llama-3.3-70B  tp 2     33.88         4.84       4.81       0.55        -0.42
"""

from dataclasses import dataclass

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.planning.memory.weights import DTYPE_BYTES, stage_layers
from ftm_operator.planning.model.architecture import Architecture

UTILIZATION = 0.92
"""The share of a GPU that the engine fills by default. Source: config/cache.py, gpu_memory_utilization."""
SAMPLER_BYTES = 38.3
"""Per logit: float32 logits, their sorted copy with 64-bit indices, probabilities and masks. Fitted to the table."""
GRAPH_BYTES_PER_LAYER = 16 * MIB
GRAPH_BYTES_PER_EXPERT_LAYER = 30 * MIB
"""Upper bounds of the table's."""
NON_TORCH_BYTES = 160 * MIB
NON_TORCH_BYTES_OF_SEVERAL = 600 * MIB
SLACK_BYTES = 128 * MIB
LATENT_WORKSPACE_TOKENS = 64 * 1024
"""Latents that are expanded at once. Source: mla_attention.py, determine_chunked_prefill_workspace_size."""


@dataclass(frozen=True)
class Batch:
    """The most that the engine schedules at once."""

    tokens: int
    """--max-num-batched-tokens."""
    sequences: int
    """--max-num-seqs."""


SMALL_BATCH = Batch(2048, 256)


def default_batch(memory_bytes: int, product: str) -> Batch:
    """Returns vLLM's defaults for its API server by GPU. Source: engine/arg_utils.py, get_batch_defaults."""
    if memory_bytes >= 160 * GIB:
        return Batch(16384, 1024)
    if memory_bytes >= 70 * GIB and "a100" not in product.lower():
        return Batch(8192, 1024)
    return SMALL_BATCH


def activation_bytes(model: Architecture, tp: int, dtype: str, batch: Batch) -> int:
    """Returns the larger peak of the profiling run."""
    size = DTYPE_BYTES[dtype]
    sampler = int(SAMPLER_BYTES * batch.sequences * model.vocabulary) + batch.tokens * model.hidden_size * size
    widest = max(_attention_width(model, tp), _mlp_width(model, tp), _expert_width(model, tp))
    forward = batch.tokens * (4 * model.hidden_size + widest) * size
    return max(sampler, forward + _latent_workspace(model, tp, size))


def graph_bytes(model: Architecture, pp: int) -> int:
    """Returns the bytes of CUDA graphs of the stage with most layers."""
    bytes_per_layer = GRAPH_BYTES_PER_EXPERT_LAYER if model.experts else GRAPH_BYTES_PER_LAYER
    return bytes_per_layer * max(stage_layers(model.layers, pp))


def non_torch_bytes(ranks: int) -> int:
    """Returns the bytes that CUDA and NCCL hold outside of torch."""
    return NON_TORCH_BYTES if ranks == 1 else NON_TORCH_BYTES_OF_SEVERAL


def rotary_bytes(model: Architecture, dtype: str) -> int:
    """Returns the bytes of the table of angles."""
    width = model.latent.rope_width if model.latent else model.head_size
    return model.max_context * width * DTYPE_BYTES[dtype]


def _attention_width(model: Architecture, tp: int) -> int:
    return (model.heads // tp + 2 * max(1, model.key_value_heads // tp)) * model.head_size


def _mlp_width(model: Architecture, tp: int) -> int:
    """Returns the width of gate and up, and their product."""
    return 3 * (model.mlp_width or 0) // tp


def _expert_width(model: Architecture, tp: int) -> int:
    """Returns the width of each token's experts: gate and up, their product, and the output."""
    experts = model.experts
    return experts.per_token * (3 * experts.width // tp + model.hidden_size) if experts else 0


def _latent_workspace(model: Architecture, tp: int, size: int) -> int:
    if not model.latent:
        return 0
    latent, heads = model.latent, model.heads // tp
    expanded = heads * (latent.nope_width + latent.value_width) + latent.key_value_rank + latent.rope_width
    return LATENT_WORKSPACE_TOKENS * expanded * size
