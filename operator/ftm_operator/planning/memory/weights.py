"""Counts the bytes of weights that each rank holds, exactly from the checkpoint's tensors.

Over tp tensor-parallel ranks vLLM keeps of a tensor (layers/linear.py, vocab_parallel_embedding.py, fused_moe):

    embedding, output layer    rows padded to a multiple of 64, divided by tp; held once when they are tied
    queries, gate, up          outputs divided by tp, biases too
    keys, values               outputs divided by tp, but at least one head per rank: replicated when tp > heads
    attention output, down     inputs divided by tp; a bias is whole on each rank
    experts                    the width inside each expert divided by tp; whole experts with --enable-expert-parallel
    latent projections (MLA)   q_a and kv_a whole, q_b and kv_b divided by heads, those of an index whole; of a packed
                               kv_b there is a copy in the serving dtype (mla_attention.py, split_kv_b_proj)
    state-space projections    outputs divided by heads; what a group of heads shares is on each rank of the group
    norms, routers, the rest   whole on each rank
    vision tower               as the decoder: attention and MLP divided, the rest whole

Over pp pipeline stages the layers are divided as `stage_layers` says, the embedding is on the first stage and the
output layer on the last, and the heaviest stage counts. Layers beyond the decoder (BEYOND) are not loaded. Numbers are
kept in the serving dtype, packed tensors as they are stored, and a `Scheme` packs linear layers.

Example: Llama-3.1-70B, bf16, tp 4: 80 layers of 856 MB / 4 and two embeddings of 128256 x 8192 / 4: 35.3 GB per rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from ftm_jobs.contract.facts import BEYOND, TensorGroup, of_encoder
from ftm_operator.planning.model.architecture import Architecture, State
from ftm_operator.planning.model.layer_attention import GEMMA_4
from ftm_operator.planning.model.padding import vocabulary_rows
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.model.tensor_names import (
    FUSED_ATTENTION,
    INPUTS_SPLIT,
    KEYS_AND_VALUES,
    LINEAR,
    NOT_PACKED,
    OUTPUT,
    OUTPUTS_SPLIT,
    VOCABULARY,
    module_and_leaf,
    module_of,
    part_of,
    place_of,
)

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
STORED_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E3M2", "F6_E2M3"), 6),
    "F4": 4,
}
STATE_INPUTS = {"in_proj", "conv1d"}
"""Layers of Mamba 2 that have outputs of each head and outputs that a group of heads shares."""
DELTA = "linear_attn"
"""The component of names of delta nets, which have as many keys as values."""
INDEX = "indexer"
"""The component of names of a sparse attention's index."""
MERGER = {"merger", "mlp"}
"""Components of names of the two layers of Qwen2-VL's merger, the first divided by outputs, the second by inputs."""
FLOATING = {"F16", "BF16", "F32", "F64"}
MXFP4_WIDTH = 256
"""Expert widths per rank are padded to a multiple of this. Source: gpt-oss-20b and -120b load 13.47 and 64.38 GiB."""
MARLIN_WIDTH, MARLIN_HIDDEN = 128, 256
"""Likewise by Marlin, and the residual width. Source: layers/fused_moe/oracle/mxfp4.py, MXFP4's rounding up."""

TABLES_ON_EACH_STAGE = {
    "cohere",
    "gemma",
    "gemma2",
    "gemma3_text",
    *GEMMA_4,
    "gpt_oss",
    "jamba",
    "mixtral",
    "olmoe",
    "qwen2_moe",
    "qwen3_moe",
    "qwen3_next",
}
"""Families whose stages all hold the embedding and the output layer. Source: their classes in vLLM, as built."""
PARTS = ("embedding", "attention", "mlp", "experts", "vision", "other")


@dataclass(frozen=True)
class RankPart:
    """Alike tensors on one rank."""

    name: str
    """The item of `Weights` that they belong to."""
    place: str
    """Their place: layers, first, last or everywhere."""
    size: int
    """Bytes of one of them."""
    layers: int
    """The number of layers that have them; outside of layers, their own number."""
    copies: int = 1
    """The number of them in each layer."""


@dataclass(frozen=True)
class Weights:
    """Bytes of weights by item, on the rank that holds most."""

    embedding: int
    """The embedding, with the output layer."""
    attention: int
    mlp: int
    experts: int
    vision: int
    other: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.mlp + self.experts + self.vision + self.other


def rank_weights(model: Architecture, tp: int, pp: int, dtype: str, scheme: Scheme) -> Weights:
    """Returns the weights of a rank of the heaviest of the pp stages."""
    return heaviest_stage(model, rank_parts(model, tp, dtype, scheme), pp)


def rank_parts(model: Architecture, tp: int, dtype: str, scheme: Scheme) -> list[RankPart]:
    """Returns each group of tensors as one of tp ranks holds it, in whatever stage."""
    if not model.tensors:
        return _parts_without_tensors(model, tp, dtype, scheme)
    return [
        RankPart(
            part_of(group.name),
            place_of(group.name),
            _group_bytes(group, model, tp, dtype, scheme),
            *_per_layer(group, model, tp),
        )
        for group in model.tensors
        if BEYOND not in group.name.split(".")
    ] + _unpacked_copies(model, tp, dtype, scheme)


def _unpacked_copies(model: Architecture, tp: int, dtype: str, scheme: Scheme) -> list[RankPart]:
    """Returns the copy of a latent's projection that attention reads, where the projection is packed."""
    if not model.latent or not scheme.packs or scheme.experts_only:
        return []
    latent, layers = model.latent, sum(each.kind != "state" for each in model.attention)
    numbers = ceil(model.heads / tp) * (latent.nope_width + latent.value_width) * latent.key_value_rank
    return [RankPart("attention", "layers", numbers * DTYPE_BYTES[dtype], layers)]


def heaviest_stage(model: Architecture, parts: Sequence[RankPart], pp: int) -> Weights:
    """Returns the weights of a rank of the stage that holds most."""
    stages = stage_layers(model.layers, pp)
    return max((_stage(model, parts, stage, stages) for stage in range(pp)), key=lambda each: each.total)


def stage_layers(layers: int, pp: int) -> list[int]:
    """Returns the number of layers of each stage. Source: distributed/utils.py, get_pp_indices."""
    counts = [layers // pp] * pp
    for extra in range(layers % pp):
        counts[-(extra + 2)] += 1
    return counts


def _stage(model: Architecture, parts: Sequence[RankPart], stage: int, stages: list[int]) -> Weights:
    sizes = dict.fromkeys(PARTS, 0)
    first, last = stage == 0, stage == len(stages) - 1
    own = range(sum(stages[:stage]), sum(stages[: stage + 1]))
    held = _layers_held(model, own)
    for part in parts:
        if part.place == "layers":
            count = part.copies * held.get(part.layers, min(part.layers, len(own)))
        elif part.place == "everywhere" or (part.name == "embedding" and model.model_type in TABLES_ON_EACH_STAGE):
            count = part.layers
        elif part.place == "last":
            count = part.layers if last and not model.tied else 0
        else:
            count = part.layers if first or (last and model.tied and part.name == "embedding") else 0
        sizes[part.name] += part.size * count
    return Weights(**sizes)


def _layers_held(model: Architecture, own: range) -> dict[int, int]:
    """Returns, for tensors that so many layers have, how many lie in the layers `own`; of two kinds the more."""
    experts = model.experts.layers if model.experts else ()
    states = [number for number, each in enumerate(model.attention) if each.kind == "state"]
    own_heads = [number for number, each in enumerate(model.attention) if each.head_size]
    held: dict[int, int] = {}
    for kind in (experts, states, own_heads):
        inside = sum(layer in own for layer in kind)
        for layers, count in ((len(kind), inside), (model.layers - len(kind), len(own) - inside)):
            held[layers] = max(held.get(layers, 0), count)
    return held


def _per_layer(group: TensorGroup, model: Architecture, tp: int) -> tuple[int, int]:
    """Returns the number of layers that have such a tensor, and how many each of them has on a rank."""
    if module_of(group.name) == "k_proj" and model.has_values_of_keys(group.shape[0]):
        return group.count, 2
    if not model.experts or "experts.*" not in group.name:
        return group.count, 1
    count = model.experts.count
    return ceil(group.count / count), ceil(count / tp) if model.experts.whole else count


def _group_bytes(group: TensorGroup, model: Architecture, tp: int, dtype: str, scheme: Scheme) -> int:
    """Returns the bytes of one tensor of the group, on one rank."""
    if scheme.method == "mxfp4" and group.name.endswith("_scales"):
        return 0  # linear_bytes counts them with their blocks
    if scheme.method == "mxfp4" and group.name.endswith("_blocks"):
        experts, outputs, groups, packed = group.shape
        group = group.model_copy(update={"shape": (experts, groups * packed * 2, outputs)})
    shape = rank_shape(group, model, tp)
    if _is_packed_by(scheme, group):
        if scheme.method == "mxfp4":
            shape = _mxfp4_padded(shape, group.name, scheme.marlin)
        return prod(shape[:-2]) * scheme.linear_bytes(shape[-2], shape[-1])
    if group.dtype in FLOATING and not group.name.endswith(("scale", "scales", "scale_inv", "zeros")):
        return prod(shape) * DTYPE_BYTES[dtype]
    return ceil(prod(shape) * STORED_BITS.get(group.dtype, 16) / 8)


def _is_packed_by(scheme: Scheme, group: TensorGroup) -> bool:
    module, leaf = module_and_leaf(group.name)
    if not scheme.packs or len(group.shape) < 2 or of_encoder(group.name) or leaf in ("bias", "_bias"):
        return False
    if scheme.experts_only:
        return "experts" in group.name.split(".")
    return (
        group.dtype in FLOATING
        and module in LINEAR
        and module not in NOT_PACKED
        and not (module == "wk" and INDEX in group.name.split("."))
    )


def _mxfp4_padded(shape: tuple[int, ...], name: str, marlin: bool) -> tuple[int, ...]:
    """Returns (experts, hidden, 2 · width) or (experts, width, hidden) with its widths rounded up."""
    width, hidden = (MARLIN_WIDTH, MARLIN_HIDDEN) if marlin else (MXFP4_WIDTH, 1)
    units = (hidden, 2 * width) if "gate_up" in name else (width, hidden)
    padded = [ceil(size / unit) * unit for size, unit in zip(shape[-2:], units, strict=True)]
    return (*shape[:-2], *padded)


def rank_shape(group: TensorGroup, model: Architecture, tp: int) -> tuple[int, ...]:
    """Returns the shape of a tensor's part on one rank."""
    module, leaf = module_and_leaf(group.name)
    components = group.name.split(".")
    bias = leaf in ("bias", "_bias")
    if module in VOCABULARY or module in OUTPUT:
        return (vocabulary_rows(group.shape[0]) // tp, *group.shape[1:])
    if tp == 1 or INDEX in components:
        return group.shape
    if "experts" in components:
        return _expert_shape(group, module, bias, tp, whole=bool(model.experts and model.experts.whole))
    if of_encoder(group.name):
        splits = module in FUSED_ATTENTION | OUTPUTS_SPLIT | KEYS_AND_VALUES or MERGER.issubset(components)
        return _divided(group.shape, 0, tp) if splits else _inputs_divided(group.shape, module, bias, tp)
    if module in STATE_INPUTS and model.state and model.state.groups:
        return _state_shape(group, model.state, tp)
    if module in KEYS_AND_VALUES and DELTA not in components:
        heads = model.key_heads(group.shape[0])
        return (ceil(group.shape[0] * max(1, heads // tp) / heads), *group.shape[1:])
    if module in FUSED_ATTENTION:
        return _fused_shape(group, model, tp)
    if module in OUTPUTS_SPLIT | KEYS_AND_VALUES:
        return _divided(group.shape, 0, tp)
    if components[-1] == "sinks":
        return _divided(group.shape, 0, tp)
    return _inputs_divided(group.shape, module, bias, tp)


def _state_shape(group: TensorGroup, state: State, tp: int) -> tuple[int, ...]:
    """Returns a rank's part of STATE_INPUTS: divided by heads, but for what a group of heads shares."""
    shared = state.groups * state.group_width
    rows = ceil((group.shape[0] - shared) / tp) + state.rank_groups(tp) * state.group_width
    return (rows, *group.shape[1:])


def _inputs_divided(shape: tuple[int, ...], module: str, bias: bool, tp: int) -> tuple[int, ...]:
    if module in INPUTS_SPLIT and not bias and len(shape) >= 2:
        return _divided(shape, len(shape) - 1, tp)
    return shape


def _expert_shape(group: TensorGroup, module: str, bias: bool, tp: int, whole: bool) -> tuple[int, ...]:
    """Returns a rank's part of (experts, …), where all are in one tensor, or of one expert's plain shape."""
    if whole:
        return group.shape if "experts.*" in group.name else _divided(group.shape, 0, tp)
    if bias and module in INPUTS_SPLIT:
        return group.shape
    stacked = len(group.shape) >= 3 or (bias and len(group.shape) == 2)
    if module in INPUTS_SPLIT:
        return _divided(group.shape, 1 if stacked else len(group.shape) - 1, tp)
    return _divided(group.shape, (2 if len(group.shape) == 3 else 1) if stacked else 0, tp)


def _fused_shape(group: TensorGroup, model: Architecture, tp: int) -> tuple[int, ...]:
    whole = model.heads + 2 * model.key_value_heads
    own = model.heads // tp + 2 * max(1, model.key_value_heads // tp)
    position = len(group.shape) - 1 if module_and_leaf(group.name)[0] == "c_attn" else 0
    return tuple(ceil(size * own / whole) if index == position else size for index, size in enumerate(group.shape))


def _divided(shape: tuple[int, ...], position: int, tp: int) -> tuple[int, ...]:
    return tuple(ceil(size / tp) if index == position else size for index, size in enumerate(shape))


def _parts_without_tensors(model: Architecture, tp: int, dtype: str, scheme: Scheme) -> list[RankPart]:
    """Returns the parts by the sum of bytes alone: the embeddings by their shape, and the rest divided evenly."""
    parameters = model.weight_bytes // ceil(STORED_BITS.get(model.dtype, 16) / 8)
    table = vocabulary_rows(model.vocabulary) * model.hidden_size
    inner = max(0, parameters - (table if model.tied else 2 * table))
    group = scheme.group or 128
    size = scheme.linear_bytes(1, group) / group if scheme.packs else DTYPE_BYTES[dtype]
    table_bytes = table * DTYPE_BYTES[dtype] // tp
    return [
        RankPart("embedding", "first", table_bytes, 1),
        RankPart("embedding", "last", table_bytes, 1),
        RankPart("other", "layers", ceil(inner * size / tp / model.layers), model.layers),
    ]
