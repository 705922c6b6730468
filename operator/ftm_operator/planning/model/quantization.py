"""Describes how weights are packed into fewer bits, and counts the bytes that they take.

A linear layer with weight (out, in), packed at `bits` with groups of `group` along `in`, takes

    out·in·bits/8                      the numbers
    out·in/group · 2                   a 16-bit scale per group
    out·in/group · bits/8              a zero point per group, if it has one

bytes; group 0 is one scale for each output. Source: AWQ (auto_awq.py) and compressed-tensors' pack-quantized
(compressed_tensors_wNa16.py) in vLLM, which keep the same number of bytes after they repack for Marlin.
Embeddings, norms, routers and the output layer stay at 16 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

Method = Literal["none", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"]

SCALE_BYTES = 2
FP8_SCALE_BYTES = 4
MXFP4_GROUP = 32
MXFP4_SCALE_BYTES = 1


@dataclass(frozen=True)
class Scheme:
    """A way of packing weights: its method, bits and groups."""

    method: Method
    bits: int = 16
    group: int = 0
    """Inputs that share a scale; 0: all of an output's."""
    zero_point: bool = False
    experts_only: bool = False
    """Only the experts are packed."""
    marlin: bool = False
    """The GPU has no kernel of its own for MXFP4, and Marlin's pads what it repacks."""
    in_the_making: bool = False
    """A Job will pack them, and pads what padding.py says."""

    @property
    def packs(self) -> bool:
        return self.method != "none"

    @property
    def label(self) -> str:
        if self.method in ("none", "fp8", "mxfp4"):
            return {"none": "None", "fp8": "FP8", "mxfp4": "MXFP4"}[self.method]
        name = {"awq": "AWQ", "gptq": "GPTQ"}.get(self.method, "compressed-tensors")
        return f"{name} {self.bits}-bit" + (f", groups of {self.group}" if self.group else "")

    def linear_bytes(self, outputs: int, inputs: int) -> int:
        """Returns the bytes of one packed weight (outputs, inputs)."""
        numbers = outputs * inputs
        packed = ceil(numbers * self.bits / 8)
        if self.method == "mxfp4":
            return packed + ceil(numbers / MXFP4_GROUP) * MXFP4_SCALE_BYTES
        if self.method == "fp8":
            scales = ceil(outputs / self.group) * ceil(inputs / self.group) if self.group else outputs
            return packed + scales * FP8_SCALE_BYTES
        scales = outputs * ceil(inputs / self.group) if self.group else outputs
        return packed + scales * SCALE_BYTES + (ceil(scales * self.bits / 8) if self.zero_point else 0)


NONE = Scheme("none")
AWQ = Scheme("awq", 4, 128, zero_point=True)
COMPRESSED_TENSORS = Scheme("compressed-tensors", 4, 128, zero_point=True)
FP8 = Scheme("fp8", 8)
MXFP4_GENERATIONS = (9, 10)
"""Major compute capabilities that have kernels of their own for MXFP4 (Hopper, Blackwell); others take Marlin's."""

MINIMUM_CAPABILITY: Mapping[Method, tuple[int, int]] = {
    "awq": (7, 5),
    "gptq": (6, 0),
    "compressed-tensors": (7, 0),
    "fp8": (7, 5),
    "mxfp4": (8, 0),
}
"""Compute capability that a GPU must have. Source: get_min_capability in layers/quantization of vLLM."""


def scheme_of_config(config: Mapping[str, Any]) -> Scheme:
    """Returns what config.json's quantization_config says; NONE if there is none."""
    prefix = "quantization_config."
    fields = {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}
    method = str(fields.get("quant_method", ""))
    bits = int(fields.get("bits", fields.get("w_bit", 4)))
    group = int(fields.get("group_size", fields.get("q_group_size", 128)))
    if method == "awq":
        return Scheme("awq", bits, max(group, 0), zero_point=bool(fields.get("zero_point", True)))
    if method == "gptq":
        return Scheme("gptq", bits, max(group, 0), zero_point=True)
    if method == "mxfp4":
        return Scheme("mxfp4", 4, MXFP4_GROUP, experts_only=True)
    if method in ("fp8", "fbgemm_fp8"):
        block = fields.get("weight_block_size")
        return Scheme("fp8", 8, int(block[0]) if isinstance(block, list) and block else 0)
    if method in ("compressed-tensors", "compressed_tensors"):
        return _compressed_tensors(fields)
    return NONE


def _compressed_tensors(fields: Mapping[str, Any]) -> Scheme:
    weights = {name.partition(".weights.")[2]: value for name, value in fields.items() if ".weights." in name}
    bits = int(weights.get("num_bits", 4))
    if bits == 8 and weights.get("type") == "float":
        return FP8
    group = int(weights.get("group_size", 0)) if weights.get("strategy", "group") == "group" else 0
    return Scheme("compressed-tensors", bits, max(group, 0), zero_point=not weights.get("symmetric", True))
