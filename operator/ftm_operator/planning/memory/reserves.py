"""Counts what vLLM holds of a GPU besides weights and KV cache, per rank: the least and the most that is known.

A plan holds the most, so that it never promises what an engine lacks.

    activations    the larger of the two peaks of the profiling run (profile_run of both model runners):
        sampler    bytes of a logit · max_num_seqs · vocabulary + batched_tokens · hidden_size · bytes
        forward    batched_tokens · (4 · hidden_size + widest layer of the rank) · bytes, and what torch.compile holds
                   if it compiles in that run
    encoder        of images or sounds, what its own peak adds in that run
    CUDA graphs    bytes of a layer · layers of the stage · sizes of a batch that are captured
    non-torch      what CUDA holds; with several ranks the buffers of NCCL and of all-reduce kernels too
    rotary         max_context · numbers of a head that are turned · bytes: the table of angles; one more where windows
                   have angles of their own, and four times as long in families whose positions count frames of videos
    deepstack      batched_tokens · hidden_size · levels · bytes: buffers between an encoder and the decoder (Qwen3-VL)
    chosen tokens  batched_tokens · index_topk · 4: where an index writes them (DeepSeek-V3.2, GLM-5)
    slack          what the allocator rounds up

The forward pass and the rotary table are formulae of the sizes; all else is a constant that was measured, as CONSTANTS
lists them: each with the least and the most that start-up logs show, and how many logs there are. Those logs are in
tests/unit/operator/planning/vllm_logs.yaml; six more are of an H100 (79.18 GiB, max_num_seqs 1024, 8192 batched tokens,
model runner V1), llm-d/llm-d-benchmark, config_explorer/empirical-vllm-memory-results.md, in GiB:

                          weights  activations  predicted  non-torch  CUDA graphs
    Qwen3-0.6B     tp 1      1.12         5.56       5.57       0.13         0.10
    Llama-3.1-8B   tp 1     14.99         4.76       4.75       0.13        -0.45
    Qwen3-32B      tp 1     61.03         5.64       5.63       0.14        -0.88
    gpt-oss-20b    tp 1     13.47         7.38       7.39       0.13         0.39
    gpt-oss-120b   tp 1     64.38         7.38       7.39       0.13         1.03
    Llama-3.3-70B  tp 2     33.88         4.84       4.81       0.55        -0.42
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.planning.memory.engine_setup import EngineSetup, Runner, captured_graphs
from ftm_operator.planning.memory.weights import DTYPE_BYTES, stage_layers
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.rules.layout import Layout

UTILIZATION = 0.92
"""The share of a GPU that the engine fills by default. Source: config/cache.py, gpu_memory_utilization."""
LATENT_WORKSPACE_TOKENS = 64 * 1024
"""Latents that are expanded at once. Source: mla_attention.py, determine_chunked_prefill_workspace_size."""

CHOSEN_BYTES = 4
"""Bytes of a token's number. Source: models/deepseek_v2.py, topk_indices_buffer."""
WITH_WEIGHTS = ("rotary", "deepstack", "chosenTokens")
"""Reserves that vLLM makes with the weights, and so logs as theirs."""


@dataclass(frozen=True)
class Constant:
    """A number of bytes as measured: the ends of what logs show."""

    least: float
    most: float
    logs: int
    """Start-up logs that say it, those of the table below and of vllm_logs.yaml."""


SAMPLER: Mapping[Runner, Constant] = {
    "V1": Constant(12, 38.3, 10),
    "V2": Constant(6, 8, 3),
    "V1 or V2": Constant(6, 38.3, 13),
}
"""Bytes of a logit. V1 with FlashInfer's sampler: 12 (Llama-3.2-1B, Qwen2-7B, Llama-3.3-70B). V1 with its own: 38.3,
float32 logits, their sorted copy with 64-bit indices, probabilities and masks (the table, Qwen3-Next). V2: the logits,
and their float32 copy (Qwen2.5-0.5B; v1/worker/gpu/sample/sampler.py); Qwen3-8B, Qwen3-32B and Qwen3.8-27B."""
COMPILE = Constant(0, GIB, 2)
"""More in the forward pass of a first start, while torch.compile compiles in it: Qwen3-8B on 0.27.1, Qwen3.8-27B on
0.29."""
ENCODER = Constant(0, 482 * MIB, 2)
"""More in the profiling run, which encodes the largest images that it may be asked for: at most what Qwen3.8-27B logs
as activations (2.58 GiB) beyond a forward pass that compiles. The KV cache that Qwen2.5-VL-7B has asks for none."""
GRAPH_OF_LAYER = Constant(0, MIB / 2, 10)
"""One CUDA graph of one layer under V1; negative sums in logs are none. At most Qwen2.5-32B's 1.59 GiB of 64 layers in
51 sizes."""
GRAPH_OF_LAYER_V2 = Constant(0, 0.32 * MIB, 3)
"""Under V2, of a layer without experts: at most Qwen3-8B's 0.56 GiB of 36 layers in 51 sizes."""
GRAPH_OF_LAYER_WITH_EXPERTS = Constant(0, 3 * MIB / 4, 4)
"""One of a layer with experts, or with a state under V1: at most Qwen3-Next's 2.37 GiB of 48 layers in 67 sizes."""
NON_TORCH = Constant(20 * MIB, 308 * MIB, 7)
"""From an L40S's 0.02 GiB to 0.3 under WSL."""
NON_TORCH_OF_TWO = Constant(92 * MIB, 1414 * MIB, 2)
"""Each of two ranks: 0.55 GiB (H100) and 1.38 (H200)."""
NON_TORCH_OF_MORE = Constant(92 * MIB, 1741 * MIB, 2)
"""Each of four: 0.09 GiB (OPT-2.7B, RTX 4090) and 1.7 (Qwen3-235B, RTX PRO 6000)."""
SLACK = Constant(0, 128 * MIB, 6)
"""As much as the table's sums lack."""


@dataclass(frozen=True)
class Reserve:
    """The bytes of one item on one rank: the ends of what is known; a plan holds the most."""

    least: int
    most: int
    basis: Literal["Formula", "Measured"] = "Formula"
    logs: int = 0
    """Start-up logs behind its constants."""

    def to_json(self) -> dict[str, Any]:
        return {"least": self.least, "most": self.most, "basis": self.basis, "logs": self.logs}


Reserves = Mapping[str, Reserve]
"""By the names that `ftm plan -o json` shows."""


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


def reserves(
    model: Architecture,
    layout: Layout,
    dtype: str,
    batch: Batch,
    engine: EngineSetup,
    capability: tuple[int, int] | None = None,
) -> Reserves:
    """Returns what one rank holds besides weights and KV cache. `capability`: the GPU's."""
    drafted = engine.draft.tokens if engine.draft else 0
    graphs = captured_graphs(batch.sequences, capability, drafted) if engine.deducts_graphs else 0
    buffers = {
        "deepstack": batch.tokens * model.hidden_size * model.deepstack * DTYPE_BYTES[dtype],
        "chosenTokens": batch.tokens * model.indexer.chosen * CHOSEN_BYTES if model.indexer else 0,
    }
    return {
        "activations": activations(model, layout.tensor_parallel, dtype, batch, engine),
        **({"encoder": _times(ENCODER)} if model.has_encoder else {}),
        "cudaGraphs": _graphs(model, layout.pipeline_parallel, graphs, engine.runner(model)),
        "nonTorch": _times(_non_torch(layout.gpus)),
        "rotary": rotary_table(model, dtype),
        **{name: Reserve(size, size) for name, size in buffers.items() if size},
        "slack": _times(SLACK),
    }


def activations(model: Architecture, tp: int, dtype: str, batch: Batch, engine: EngineSetup) -> Reserve:
    """Returns the larger peak of the profiling run."""
    size, constant = DTYPE_BYTES[dtype], SAMPLER[engine.runner(model)]
    logits, last_hidden = batch.sequences * model.vocabulary, batch.tokens * model.hidden_size * size
    forward = _forward_bytes(model, tp, size, batch)
    compiling = 0 if engine.eager else int(COMPILE.most)
    return Reserve(
        least=max(int(constant.least * logits) + last_hidden, forward),
        most=max(int(constant.most * logits) + last_hidden, forward + compiling),
        basis="Measured",
        logs=constant.logs,
    )


def rotary_table(model: Architecture, dtype: str) -> Reserve:
    """Returns the bytes of the tables of angles."""
    rotary = model.rotary
    if model.latent:
        widths = [model.latent.rope_width if rotary.share else 0]
    elif rotary.own_angles:
        widths = [size for _, size in {(each.kind, model.heads_of(each)[1]) for each in model.attention}]
    else:
        widths = [rotary.width_of(model.head_size)]
    size = model.max_context * sum(widths) * DTYPE_BYTES["float32" if rotary.in_float32 else dtype]
    tables = 2 if model.indexer else 1  # an index may have its own
    return Reserve(size * rotary.least_longer, size * rotary.most_longer * tables)


def _graphs(model: Architecture, pp: int, sizes: int, runner: Runner) -> Reserve:
    if runner == "V2" and not model.experts:
        constant = GRAPH_OF_LAYER_V2
    else:
        constant = GRAPH_OF_LAYER_WITH_EXPERTS if model.experts or model.state else GRAPH_OF_LAYER
    return _times(constant, sizes * max(stage_layers(model.layers, pp)))


def _non_torch(ranks: int) -> Constant:
    return NON_TORCH if ranks == 1 else NON_TORCH_OF_TWO if ranks == 2 else NON_TORCH_OF_MORE


def _times(constant: Constant, count: int = 1) -> Reserve:
    return Reserve(int(constant.least * count), int(constant.most * count), "Measured", constant.logs)


def _forward_bytes(model: Architecture, tp: int, size: int, batch: Batch) -> int:
    widest = max(_attention_width(model, tp), _mlp_width(model, tp), _expert_width(model, tp))
    return batch.tokens * (4 * model.hidden_size + widest) * size + _latent_workspace(model, tp, size)


def _attention_width(model: Architecture, tp: int) -> int:
    return max(
        ((model.heads // tp + 2 * max(1, heads // tp)) * size for heads, size in model.heads_of_layers), default=0
    )


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
