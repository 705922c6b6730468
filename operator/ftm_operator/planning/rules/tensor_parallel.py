"""Says which tensor-parallel sizes vLLM accepts for a model.

Each rule is one check that the engine makes when it starts, named by what fails; its docstring names the check's file
in vLLM. A rule returns None, or a Rejection whose sentence has the numbers. The rules that need a kind of GPU are in
placement.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.padding import padded, vocabulary_rows
from ftm_operator.planning.model.quantization import NONE, Scheme
from ftm_operator.planning.rules.rejection import Rejection

PACKED_OUTPUTS = 8
"""4-bit numbers in 32 bits."""
SMALLER_GROUPS = (64, 32)
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
class Split:
    """A model, packed by a scheme, whose layers are divided over tensor-parallel ranks."""

    model: Architecture
    ranks: int
    scheme: Scheme = NONE


def split_of(model: Architecture, ranks: int, scheme: Scheme) -> Split:
    """Returns the split of the model as a Job leaves it for so many ranks, padded where it is yet to be packed."""
    return Split(padded(model, scheme, ranks), ranks, scheme)


def attention_heads(split: Split) -> Rejection | None:
    """Query heads are split evenly. Source: config/model.py, verify_with_parallel_config."""
    if split.model.heads % split.ranks:
        return Rejection("AttentionHeads", f"{split.model.heads} attention heads do not divide by {split.ranks}")
    return None


def key_value_heads(split: Split) -> Rejection | None:
    """Key-value heads are split or replicated evenly; a latent is not split. Source: layers/linear.py."""
    ranks = split.ranks
    if split.model.latent:
        return None
    for heads, _ in sorted(split.model.heads_of_layers):
        if split.model.model_type in NOT_REPLICATED and ranks > heads:
            return Rejection("KeyValueHeads", f"{heads} key-value heads are fewer than {ranks} ranks")
        if heads % ranks and ranks % heads:
            return Rejection("KeyValueHeads", f"{heads} key-value heads neither divide by {ranks} nor into it")
    return None


def padded_vocabulary(split: Split) -> Rejection | None:
    """The padded vocabulary is split evenly. Source: layers/vocab_parallel_embedding.py."""
    vocabulary, rows = split.model.vocabulary, vocabulary_rows(split.model.vocabulary)
    if rows % split.ranks:
        return Rejection(
            "PaddedVocabulary", f"vocabulary {vocabulary}, padded to {rows}, does not divide by {split.ranks}"
        )
    return None


def mlp_width(split: Split) -> Rejection | None:
    """The MLP's width is split evenly. Source: layers/linear.py, ColumnParallelLinear."""
    width = split.model.mlp_width
    if width is not None and width % split.ranks:
        return Rejection("MLPWidth", f"MLP width {width} does not divide by {split.ranks}")
    return None


def expert_width(split: Split) -> Rejection | None:
    """The width inside each expert is split evenly. Source: layers/fused_moe/config.py, FusedMoEConfig."""
    experts = split.model.experts
    for width in ((() if experts.whole else (experts.width,)) + (experts.shared_width,)) if experts else ():
        if width % split.ranks:
            return Rejection("ExpertWidth", f"expert width {width} does not divide by {split.ranks}")
    return None


def expert_count(split: Split) -> Rejection | None:
    """Some families refuse more ranks than experts. Source: models/qwen3_moe.py."""
    experts = split.model.experts
    if experts and split.model.model_type in EXPERT_PER_RANK and split.ranks > experts.count:
        return Rejection("ExpertCount", f"{experts.count} experts are fewer than {split.ranks} ranks")
    return None


def state_heads(split: Split) -> Rejection | None:
    """Heads of state-space layers are split evenly. Source: layers/mamba/mamba_mixer2.py."""
    state = split.model.state
    if state and state.heads % split.ranks:
        return Rejection("StateHeads", f"{state.heads} state-space heads do not divide by {split.ranks}")
    return None


def vision_heads(split: Split) -> Rejection | None:
    """The vision tower's heads are split evenly. Source: models/vision.py and the towers' attention."""
    vision = split.model.vision
    if vision and vision.heads % split.ranks:
        return Rejection(
            "VisionHeads",
            f"{vision.heads} heads of the vision tower do not divide by {split.ranks}; "
            "--mm-encoder-tp-mode=data in spec.serving.extraArgs would keep it whole on each GPU",
        )
    return None


def quantized_inputs(split: Split) -> Rejection | None:
    """A rank's inputs are whole groups. Source: quantization/auto_awq.py; distributed/utils.py."""
    scheme, ranks = split.scheme, split.ranks
    group = scheme.group
    if not group or scheme.method in ("mxfp4", "none") or (scheme.method == "fp8" and ranks == 1):
        return None
    for name, inputs in _split_inputs(split.model):
        if inputs % ranks == 0 and not are_whole_groups(inputs, ranks, group):
            return Rejection(
                "QuantizationGroups",
                f"{name}: {inputs} inputs over {ranks} ranks are {inputs // ranks} each, which are not whole "
                f"{scheme.label.partition(',')[0]} groups of {group}" + _smaller_group(inputs, ranks, group),
            )
    return None


def quantized_outputs(split: Split) -> Rejection | None:
    """A rank's outputs fill whole packs, or blocks. Source: quantization/auto_awq.py; utils/fp8_utils.py."""
    scheme, experts = split.scheme, split.model.experts
    if scheme.method == "fp8" and scheme.group and experts and not experts.whole:
        width = experts.width // split.ranks
        if width % scheme.group:
            return Rejection(
                "QuantizationOutputs",
                f"experts: {width} outputs per rank of {split.ranks} are not whole FP8 blocks of {scheme.group}",
            )
    if scheme.method in ("awq", "gptq", "compressed-tensors") and scheme.bits == 4:
        for name, outputs in _split_outputs(split.model, split.ranks):
            if outputs % PACKED_OUTPUTS:
                return Rejection(
                    "QuantizationOutputs",
                    f"{name}: {outputs} outputs per rank of {split.ranks} do not divide by {PACKED_OUTPUTS}, "
                    "as many as 32 bits hold",
                )
    return None


SplitRule = Callable[[Split], Rejection | None]
RULES: tuple[SplitRule, ...] = (
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


def first_rejection(split: Split) -> Rejection | None:
    """Returns the first rule that the split breaks, in the order of RULES."""
    return next((rejection for rule in RULES if (rejection := rule(split))), None)


def valid_sizes(model: Architecture, scheme: Scheme = NONE, largest: int = 16) -> list[int]:
    """Returns the tensor-parallel sizes up to `largest` that break no rule."""
    return [ranks for ranks in range(1, largest + 1) if not first_rejection(split_of(model, ranks, scheme))]


def are_whole_groups(inputs: int, ranks: int, group: int) -> bool:
    """Returns whether each rank's part of the inputs is a number of whole quantization groups."""
    return inputs % (ranks * group) == 0


def attention_output_width(model: Architecture) -> int:
    """Returns the inputs of the attention's output projection, over all ranks."""
    return model.heads * (model.latent.value_width if model.latent else model.head_size)


def _split_inputs(model: Architecture) -> Iterator[tuple[str, int]]:
    """Yields the layers whose inputs are divided over ranks, with all their inputs."""
    yield "o_proj", attention_output_width(model)
    if model.mlp_width:
        yield "down_proj", model.mlp_width
    if model.experts and not model.experts.whole:
        yield "experts.down_proj", model.experts.width


def _split_outputs(model: Architecture, ranks: int) -> Iterator[tuple[str, int]]:
    """Yields the layers whose outputs are divided over ranks, with a rank's part of them."""
    if not model.latent:
        heads = model.heads // ranks + 2 * max(1, model.key_value_heads // ranks)
        yield "qkv_proj", heads * model.head_size
    if model.mlp_width:
        yield "gate_up_proj", 2 * model.mlp_width // ranks
    if model.experts and not model.experts.whole:
        yield "experts.gate_up_proj", 2 * model.experts.width // ranks
    yield "o_proj", model.hidden_size


def _smaller_group(inputs: int, ranks: int, group: int) -> str:
    smaller = next((size for size in SMALLER_GROUPS if size < group and are_whole_groups(inputs, ranks, size)), None)
    return f"; groups of {smaller} would be" if smaller else ""
