"""Chooses group size and MLP width of an AWQ model, as 4-bit kernels and tensor parallelism demand them.

A quantized layer's weight is (out, in). Along `in`, each group of `group_size` weights shares a scale and a zero
point; along `out`, eight 4-bit weights share an int32. vLLM demands of every rank
(quantization/auto_awq.py, BaseAWQLinearMethod.create_weights; compressed-tensors: distributed/utils.py)

    input of the rank  % group_size == 0      o_proj and down_proj split their input by ranks, the others do not
    output of the rank % 8 == 0               q, k, v, gate and up split their output by ranks, the others do not

The group size falls back from what is asked to 64 and 32. Only the width inside an MLP can be changed: rows of zeros
added to gate and up, and columns of zeros to down, change no output, since each added neuron is act(0)·0 = 0 and is
multiplied by 0. So the MLP is padded where that costs at most PADDING_LIMIT of its width, and the group size falls
back where it costs more or where another layer forbids it.

    hidden 8192, MLP 29568, group 128, tensor parallel 1, 2, 4 and 8
    29568 / 8 = 3696, no multiple of 128  ->  29696 = 29 · 8 · 128, which is 0.4 % more
    hidden 576, MLP 1536, group 128       ->  576 is no multiple of 128: group 64

Encoders of images and sounds, and what joins them on, stay as they are. Layers beyond the decoder's, which engines
load for speculation alone, are no part of the result.

Invariants: with what `plan_layout` returns, every rule above holds for every tensor parallel size that was asked for,
and no group size between the asked one and the returned one could be had within the limit.
Pure: shapes and parsed JSON come in; imports no torch.
"""

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import Any, NoReturn

from ftm_jobs.checkpoint.tensor_groups import is_beyond
from ftm_jobs.contract.config_fields import SPELLINGS, first_number, text_fields, text_object, with_defaults
from ftm_jobs.contract.facts import holds_experts, of_encoder
from ftm_jobs.errors import InvalidInput, Reason

GROUP_SIZES = (128, 64, 32)
PACKED = 8
"""Weights of 4 bits in an int32."""
PADDING_LIMIT = 1 / 16
WIDTH_FIELDS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
"""Fields of config.json: widths inside an MLP."""

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.\d+(?=\.)")
_LAYER = re.compile(_BLOCK.pattern + r"\.(.+)\.weight$")
_UNQUANTIZED = re.compile(r"(?:^|\.)(?:gate|router|shared_expert_gate|\w*norm\w*|ln_\w+|embed\w*)$")
"""Routers of experts, norms and embeddings: small, or looked up."""
_ROWS = {"gate_proj", "up_proj", "w1", "w3"}
_COLUMNS = {"down_proj", "w2"}
_HALVES = {"gate_up_proj"}
"""Gate and up in one: each half of the rows is one of them."""
_SPLIT_INPUT = _COLUMNS | {"o_proj", "out_proj", "wo", "dense", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "x_proj"}
_KEY_VALUE = {"k_proj", "v_proj"}


@dataclass(frozen=True)
class Linear:
    """A layer that is quantized."""

    name: str
    output: int
    input: int

    @property
    def role(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class AwqLayout:
    group_size: int
    linears: tuple[Linear, ...]
    """Quantized layers, in their padded shapes."""
    widths: Mapping[str, int] = field(default_factory=dict)
    """New values of config.json's fields, by dotted names: text_config.intermediate_size."""
    padded: Mapping[int, int] = field(default_factory=dict)
    """New width of an MLP by its old one."""
    notes: tuple[str, ...] = ()

    def padded_shape(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape of a weight or a bias once it is padded, by its name."""
        module, _, parameter = name.rpartition(".")
        rows, *columns = shape
        role = module.rpartition(".")[2]
        if parameter not in ("weight", "bias") or of_encoder(name):
            return tuple(shape)
        if role in _ROWS:
            return (self.padded.get(rows, rows), *columns)
        if role in _HALVES:
            return (2 * self.padded.get(rows // 2, rows // 2), *columns)
        if role in _COLUMNS and len(shape) == 2:
            return (rows, self.padded.get(columns[0], columns[0]))
        return tuple(shape)

    def halves(self, name: str) -> bool:
        """Says whether the tensor's rows are two matrices, each padded by itself."""
        return name.split(".")[-2] in _HALVES


def plan_layout(
    config: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    group_size: int = GROUP_SIZES[0],
    tensor_parallel: Collection[int] = (1,),
) -> AwqLayout:
    """Returns the layout with which a quantized model can be served at each of the tensor parallel sizes.

    `shapes` are those of its tensors, by name. Raises InvalidInput (UnsuitableWidths) naming the layer and its width.
    """
    if group_size not in GROUP_SIZES:
        raise InvalidInput(
            Reason.UNSUITABLE_WIDTHS, f"group size {group_size} is not supported: write {_listed(GROUP_SIZES)}"
        )
    if together := next((name for name, shape in shapes.items() if holds_experts(name, shape)), None):
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"{together} holds the matrices of all experts of a layer, which AWQ's engines do not take: "
            "write quantization.method: GGUF or None",
        )
    sizes = sorted({1, *tensor_parallel})
    layers = first_number(text_fields(with_defaults(config)), *SPELLINGS["layers"]) or sys.maxsize
    beyond = {name for name in shapes if is_beyond(name, layers)}
    linears = quantized_linears({name: shape for name, shape in shapes.items() if name not in beyond})
    if not linears:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            "the model has no linear layers in numbered blocks, so that there is nothing to quantize to AWQ: "
            "write quantization.method: None or GGUF",
        )
    mlps = sorted({width for linear in linears if (width := _mlp_width(linear)) is not None})
    rules = _Rules(config, linears, sizes)
    allowed = [size for size in GROUP_SIZES if size <= group_size and rules.first_objection(size) is None]
    if not allowed:
        rules.refuse()
    paddings = {size: {width: _padded(width, size, sizes) for width in mlps} for size in allowed}
    cheap = [size for size in allowed if _cost(paddings[size]) <= PADDING_LIMIT]
    chosen = cheap[0] if cheap else min(allowed, key=lambda size: (_cost(paddings[size]), -size))
    padded = {width: new for width, new in paddings[chosen].items() if new != width}
    unpadded = AwqLayout(chosen, linears, _widths(config, padded), padded)
    final = tuple(Linear(each.name, *unpadded.padded_shape(f"{each.name}.weight", _shape(each))) for each in linears)
    why = rules.first_objection(group_size) if chosen != group_size else None
    notes = _notes(group_size, chosen, why, padded, sizes)
    return AwqLayout(chosen, final, unpadded.widths, padded, (*notes, *_left_out(beyond)))


def quantized_linears(shapes: Mapping[str, Sequence[int]]) -> tuple[Linear, ...]:
    """Lists the matrices in a language model's blocks, but for routers, norms and embeddings."""
    linears = []
    for name, shape in shapes.items():
        layer = _LAYER.search(name)
        if layer and len(shape) == 2 and not _UNQUANTIZED.search(layer[1]) and not of_encoder(name):
            linears.append(Linear(name.removesuffix(".weight"), *shape))
    return tuple(linears)


def block_of(name: str) -> str | None:
    """Returns the name of the numbered block that a tensor belongs to; None for others."""
    match = _BLOCK.search(name)
    return name[: match.end()] if match else None


def _shape(linear: Linear) -> tuple[int, int]:
    return linear.output, linear.input


def _mlp_width(linear: Linear) -> int | None:
    if linear.role in _ROWS:
        return linear.output
    if linear.role in _HALVES:
        return linear.output // 2
    return linear.input if linear.role in _COLUMNS else None


def _padded(width: int, group_size: int, sizes: Sequence[int]) -> int:
    """Returns the smallest width from this one on whose part on every rank is a multiple of the group size.

    A group that is wider than the rank's part would do for gate and up, which only need multiples of 8, but not for
    down, which has the same width.
    """
    unit = group_size * lcm(*sizes)
    return -(-width // unit) * unit


def _cost(padded: Mapping[int, int]) -> float:
    return max((new / width - 1 for width, new in padded.items()), default=0.0)


def _widths(config: Mapping[str, Any], padded: Mapping[int, int]) -> dict[str, int]:
    """Returns the fields of config.json to change. Raises InvalidInput where none holds a width that is padded."""
    inner = text_object(config)
    places = {"": config} if inner is None else {"": config, f"{inner}.": config[inner]}
    said = {
        f"{prefix}{name}": place[name] for prefix, place in places.items() for name in WIDTH_FIELDS if name in place
    }
    for width in padded:
        if width not in said.values():
            raise InvalidInput(
                Reason.UNSUITABLE_WIDTHS,
                f"an MLP is {width} wide, which would have to be padded, but none of {_listed(WIDTH_FIELDS)} of "
                "config.json is: write quantization.method: None or GGUF",
            )
    return {name: padded[width] for name, width in said.items() if width in padded}


@dataclass(frozen=True)
class _Rules:
    """Objects to group sizes that a model's shapes forbid and that padding cannot help."""

    config: Mapping[str, Any]
    linears: Sequence[Linear]
    sizes: Sequence[int]

    def first_objection(self, group_size: int) -> str | None:
        for size in self.sizes:
            for linear in self.linears:
                if objection := self._input(linear, group_size, size) or self._output(linear, size):
                    return objection
        return None

    def refuse(self) -> NoReturn:
        why = self.first_objection(GROUP_SIZES[-1])
        raise InvalidInput(
            Reason.UNSUITABLE_WIDTHS,
            f"{why}: AWQ cannot hold this model; write quantization.method: GGUF, or None"
            + (f", or another tensor parallel size than {_listed(self.sizes[1:])}" if len(self.sizes) > 1 else ""),
        )

    def _input(self, linear: Linear, group_size: int, size: int) -> str | None:
        if linear.role in _COLUMNS:
            return None
        ranks = size if linear.role in _SPLIT_INPUT else 1
        if linear.input % (ranks * group_size) == 0:
            return None
        width = f"{linear.name} has an input of {linear.input}{_of_ranks(ranks)}"
        return f"{width}, no multiple of {group_size}"

    def _output(self, linear: Linear, size: int) -> str | None:
        if linear.role in _ROWS | _HALVES:
            return None
        ranks = 1 if linear.role in _SPLIT_INPUT else size
        if linear.role in _KEY_VALUE:
            ranks = min(ranks, self._key_value_heads())
        if linear.output % (ranks * PACKED) == 0:
            return None
        return f"{linear.name} has an output of {linear.output}{_of_ranks(ranks)}, no multiple of {PACKED}"

    def _key_value_heads(self) -> int:
        """Returns the number of key-value heads: more ranks than these have copies of them."""
        text = text_fields(with_defaults(self.config))
        return first_number(text, *SPELLINGS["key_value_heads"], *SPELLINGS["attention_heads"]) or 1


def _of_ranks(ranks: int) -> str:
    return f" split over {ranks} ranks" if ranks > 1 else ""


def _notes(
    asked: int, chosen: int, why: str | None, padded: Mapping[int, int], sizes: Sequence[int]
) -> tuple[str, ...]:
    notes: list[str] = []
    if chosen != asked:
        reason = why or f"padding the MLP to multiples of {asked} would add more than {PADDING_LIMIT:.0%}"
        notes.append(f"group size {chosen} instead of {asked}: {reason}")
    for width, new in padded.items():
        parallel = f" with tensor parallel sizes {_listed(sizes)}" if sizes != [1] else ""
        notes.append(
            f"the MLP's width is padded with zeros from {width} to {new} ({new / width - 1:.1%} more), "
            f"which changes no output, so that groups of {chosen} fit{parallel}"
        )
    return tuple(notes)


def _left_out(tensors: Collection[str]) -> tuple[str, ...]:
    blocks = sorted({block_of(name) or name for name in tensors})
    if not blocks:
        return ()
    return (f"left out, since engines load what lies beyond the decoder for speculation alone: {', '.join(blocks)}",)


def _listed(values: Collection[object]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last
