"""What forbids a layout, whatever the memory: each rule is one check that vLLM makes when it starts.

A rule returns None or a Rejection, whose sentence has the numbers. The plain divisions are in tensor_parallel.py; here
are those that need more than the plain facts. `source` in a docstring is the file of vLLM 0.32 that checks it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.rank import Layout
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import MINIMUM_CAPABILITY, Scheme
from ftm_operator.planning.rules import tensor_parallel
from ftm_operator.planning.rules.tensor_parallel import Rejection

PACKED_OUTPUTS = 8
"""4-bit numbers in 32 bits."""
BFLOAT16_CAPABILITY = (8, 0)
NOT_IN_FLOAT16 = {"gemma2", "gemma3", "gemma3_text", "glm4"}
"""Source: config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS."""
NOT_REPLICATED = {"gpt_oss"}
"""Families that do not replicate key-value heads. Source: models/gpt_oss.py, OAIAttention."""
EXPERT_PER_RANK = {
    "cohere2_moe",
    "ernie4_5_moe",
    "exaone_moe",
    "minimax_m2",
    "mimo_v2",
    "qwen2_moe",
    "qwen3_moe",
    "qwen3_next",
    "step3_text",
}
"""Families that refuse more ranks than experts."""


@dataclass(frozen=True)
class Candidate:
    """A model in a layout on a kind of GPU."""

    model: Architecture
    layout: Layout
    accelerator: AcceleratorClass
    dtype: str
    scheme: Scheme

    @property
    def tp(self) -> int:
        return self.layout.tensor_parallel


def attention_heads(asked: Candidate) -> Rejection | None:
    """Query heads are split evenly. Source: config/model.py, verify_with_parallel_config."""
    return tensor_parallel.attention_heads_divide(asked.model.heads, asked.tp)


def key_value_heads(asked: Candidate) -> Rejection | None:
    """Key-value heads are split evenly or replicated evenly; a latent is not split. Source: layers/linear.py."""
    heads = asked.model.key_value_heads
    if asked.model.latent:
        return None
    if asked.model.model_type in NOT_REPLICATED and asked.tp > heads:
        return Rejection("KeyValueHeads", f"{heads} key-value heads are fewer than {asked.tp} ranks")
    return tensor_parallel.key_value_heads_divide(heads, asked.tp)


def padded_vocabulary(asked: Candidate) -> Rejection | None:
    """The padded vocabulary is split evenly. Source: layers/vocab_parallel_embedding.py."""
    return tensor_parallel.vocabulary_divides(asked.model.vocabulary, asked.tp)


def mlp_width(asked: Candidate) -> Rejection | None:
    """The MLP's width is split evenly. Source: layers/linear.py, ColumnParallelLinear."""
    return tensor_parallel.mlp_width_divides(asked.model.mlp_width, asked.tp)


def expert_width(asked: Candidate) -> Rejection | None:
    """The width inside each expert is split evenly. Source: layers/fused_moe/config.py, FusedMoEConfig."""
    experts = asked.model.experts
    for width in (experts.width, experts.shared_width) if experts else ():
        if width % asked.tp:
            return Rejection("ExpertWidth", f"expert width {width} does not divide by {asked.tp}")
    return None


def expert_count(asked: Candidate) -> Rejection | None:
    """Some families refuse more ranks than experts. Source: models/qwen3_moe.py."""
    experts = asked.model.experts
    if experts and asked.model.model_type in EXPERT_PER_RANK and asked.tp > experts.count:
        return Rejection("ExpertCount", f"{experts.count} experts are fewer than {asked.tp} ranks")
    return None


def state_heads(asked: Candidate) -> Rejection | None:
    """Heads of state-space layers are split evenly. Source: layers/mamba/mamba_mixer2.py."""
    state = asked.model.state
    if state and state.heads % asked.tp:
        return Rejection("StateHeads", f"{state.heads} state-space heads do not divide by {asked.tp}")
    return None


def vision_heads(asked: Candidate) -> Rejection | None:
    """The vision tower's heads are split evenly. Source: models/vision.py and the towers' attention."""
    vision = asked.model.vision
    if vision and vision.heads % asked.tp:
        return Rejection(
            "VisionHeads",
            f"{vision.heads} heads of the vision tower do not divide by {asked.tp}; "
            "--mm-encoder-tp-mode=data in spec.serving.extraArgs would keep it whole on each GPU",
        )
    return None


def quantized_inputs(asked: Candidate) -> Rejection | None:
    """A rank's inputs are whole groups. Source: quantization/auto_awq.py; distributed/utils.py."""
    group = asked.scheme.group
    if not group or asked.scheme.method in ("mxfp4", "none"):
        return None
    if asked.scheme.method == "fp8" and asked.tp == 1:
        return None
    for name, inputs in _split_inputs(asked.model):
        if inputs % asked.tp == 0 and (inputs // asked.tp) % group:
            return Rejection(
                "QuantizationGroups",
                f"{name}: {inputs} inputs over {asked.tp} ranks are {inputs // asked.tp} each, which are not whole "
                f"{asked.scheme.label.partition(',')[0]} groups of {group}" + _remedy(inputs, asked.tp, group),
            )
    return None


def quantized_outputs(asked: Candidate) -> Rejection | None:
    """A rank's outputs fill whole packs, or blocks. Source: quantization/auto_awq.py; utils/fp8_utils.py."""
    scheme = asked.scheme
    experts = asked.model.experts
    if scheme.method == "fp8" and scheme.group and experts:
        width = experts.width // asked.tp
        if width % scheme.group:
            return Rejection(
                "QuantizationOutputs",
                f"experts: {width} outputs per rank of {asked.tp} are not whole FP8 blocks of {scheme.group}",
            )
    if scheme.method in ("awq", "gptq", "compressed-tensors") and scheme.bits == 4:
        for name, outputs in _split_outputs(asked.model, asked.tp):
            if outputs % PACKED_OUTPUTS:
                return Rejection(
                    "QuantizationOutputs",
                    f"{name}: {outputs} outputs per rank of {asked.tp} do not divide by {PACKED_OUTPUTS}, "
                    "as many as 32 bits hold",
                )
    return None


def gpus_per_node(asked: Candidate) -> Rejection | None:
    """Tensor-parallel ranks and the stages beside them are on one node. Source: config/parallel.py."""
    layout, most = asked.layout, asked.accelerator.per_node
    inside = layout.gpus // layout.nodes
    if inside > most:
        return Rejection("GPUsPerNode", f"{inside} GPUs are needed on a node and each has {most}")
    if layout.nodes > asked.accelerator.nodes:
        return Rejection("Nodes", f"{layout.nodes} nodes are needed and there are {asked.accelerator.nodes}")
    return None


def whole_gpus(asked: Candidate) -> Rejection | None:
    """NCCL does not join parts of GPUs or shared ones."""
    if asked.layout.gpus > 1 and asked.accelerator.partition:
        return Rejection("PartOfGPU", f"{asked.layout.gpus} parts of GPUs (MIG) cannot work together")
    if asked.layout.gpus > 1 and asked.accelerator.shared_by > 1:
        return Rejection(
            "SharedGPU", f"{asked.layout.gpus} GPUs that {asked.accelerator.shared_by} pods share cannot work together"
        )
    return None


def compute_capability(asked: Candidate) -> Rejection | None:
    """bfloat16 from 8.0, each quantization from its own. Source: platforms/cuda.py, check_if_supports_dtype."""
    has = asked.accelerator.capability
    if has is None:
        return None
    if asked.dtype == "bfloat16" and has < BFLOAT16_CAPABILITY:
        return Rejection(
            "ComputeCapability",
            f"bfloat16 needs compute capability 8.0 and it has {_dotted(has)}; write dtype: float16",
        )
    needed = MINIMUM_CAPABILITY.get(asked.scheme.method)
    if needed and has < needed:
        return Rejection(
            "ComputeCapability",
            f"{asked.scheme.label.partition(',')[0]} needs compute capability {_dotted(needed)} and it has "
            f"{_dotted(has)}",
        )
    return None


def supported_dtype(asked: Candidate) -> Rejection | None:
    """Some models overflow in float16, and AWQ computes in 16 bits. Source: config/model.py, _check_valid_dtype."""
    if asked.dtype == "float16" and asked.model.model_type in NOT_IN_FLOAT16:
        return Rejection("Dtype", f"{asked.model.model_type} is numerically unstable in float16; write dtype: bfloat16")
    if asked.dtype == "float32" and asked.scheme.method == "awq":
        return Rejection("Dtype", "AWQ computes in float16 or bfloat16, not float32")
    return None


def pipeline_stages(asked: Candidate) -> Rejection | None:
    """Each stage has a layer. Source: distributed/utils.py, get_pp_indices."""
    stages, layers = asked.layout.pipeline_parallel, asked.model.layers
    if stages > layers:
        return Rejection("PipelineStages", f"{stages} pipeline stages are more than {layers} layers")
    return None


Rule = Callable[[Candidate], Rejection | None]
TENSOR_PARALLEL_RULES: tuple[Rule, ...] = (
    attention_heads,
    key_value_heads,
    padded_vocabulary,
    mlp_width,
    expert_width,
    expert_count,
    state_heads,
    vision_heads,
    quantized_inputs,
    quantized_outputs,
)
"""What the size of a stage decides."""
CLASS_RULES: tuple[Rule, ...] = (compute_capability, supported_dtype)
"""What the kind of GPU decides, whatever the layout."""
LAYOUT_RULES: tuple[Rule, ...] = (gpus_per_node, whole_gpus, pipeline_stages)
RULES = (*CLASS_RULES, *LAYOUT_RULES, *TENSOR_PARALLEL_RULES)


def first_broken(asked: Candidate, rules: tuple[Rule, ...] = RULES) -> Rejection | None:
    """The first rule that the candidate breaks, in the order of RULES."""
    return next((found for rule in rules if (found := rule(asked))), None)


def _split_inputs(model: Architecture) -> Iterator[tuple[str, int]]:
    """Layers whose inputs are divided over ranks, with all their inputs."""
    width = model.latent.value_width if model.latent else model.head_size
    yield "o_proj", model.heads * width
    if model.mlp_width:
        yield "down_proj", model.mlp_width
    if model.experts:
        yield "experts.down_proj", model.experts.width


def _split_outputs(model: Architecture, tp: int) -> Iterator[tuple[str, int]]:
    """Layers whose outputs are divided over ranks, with a rank's."""
    if not model.latent:
        heads = model.heads // tp + 2 * max(1, model.key_value_heads // tp)
        yield "qkv_proj", heads * model.head_size
    if model.mlp_width:
        yield "gate_up_proj", 2 * model.mlp_width // tp
    if model.experts:
        yield "experts.gate_up_proj", 2 * model.experts.width // tp
    yield "o_proj", model.hidden_size


def _remedy(inputs: int, tp: int, group: int) -> str:
    smaller = next((size for size in (64, 32) if size < group and (inputs // tp) % size == 0), None)
    return f"; groups of {smaller} would be" if smaller else ""


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
