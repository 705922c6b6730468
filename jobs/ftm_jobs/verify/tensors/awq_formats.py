"""Unpacks 4-bit checkpoints: AutoAWQ's GEMM packing, and compressed-tensors' pack-quantized.

AutoAWQ (awq/utils/packing_utils.py), per Linear layer with weight W (out, in) and groups of g inputs:
    qweight (in, out/8) int32, qzeros (in/g, out/8) int32, scales (in/g, out)
    each int32 holds eight outputs, the nibble at bit 4·i being output ORDER[i] of them;  Wᵀ = (q − z)·s
compressed-tensors (compressors/pack_quantized/helpers.py), per Linear layer:
    weight_packed (out, in/n) int32, n = ⌊32/bits⌋ inputs each from the low bits up, unsigned
    weight_scale (out, in/g), weight_zero_point (out/n, in/g) packed along its rows or absent, weight_shape (2,)
    W = (q − z)·s, where an absent z is 2^(bits−1)
Imports torch; no quantizer is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.verify.tensors.sources import TensorSource

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AutoAWQ's AWQ_ORDER."""
_AWQ_PARTS = ("qweight", "qzeros", "scales")
_PACKED_PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")
_REFUSED_PARTS = ("g_idx", "weight_g_idx", "weight_global_scale")


@dataclass(frozen=True)
class AwqFormat:
    method: str
    """awq or compressed-tensors."""
    bits: int
    group_size: int
    """Consecutive inputs of a group; −1: a whole row."""
    zero_point: bool


def read_format(label: str, quantization: Mapping[str, Any]) -> AwqFormat:
    """Reads config.json's quantization_config. Raises InvalidInput for a format that cannot be dequantized here."""
    method = quantization.get("quant_method")
    if method == "awq":
        if str(quantization.get("version", "gemm")).lower() != "gemm":
            raise _unsupported(label, f"version {quantization.get('version')!r}", "version gemm")
        return AwqFormat("awq", int(quantization["bits"]), int(quantization["group_size"]), True)
    if method == "compressed-tensors":
        groups = quantization.get("config_groups") or {}
        if quantization.get("format") != "pack-quantized" or len(groups) != 1:
            raise _unsupported(label, f"format {quantization.get('format')!r}", "one group of pack-quantized")
        weights = next(iter(groups.values()))["weights"]
        if weights.get("actorder"):
            raise _unsupported(label, "actorder", "no actorder")
        group = weights.get("group_size") or -1
        return AwqFormat("compressed-tensors", int(weights["num_bits"]), int(group), not weights.get("symmetric", True))
    raise _unsupported(label, f"quant_method {method!r}", "awq or compressed-tensors")


class DequantizedTensors:
    """Reads a packed checkpoint's weights under their own names, in fp32."""

    def __init__(self, source: TensorSource, packing: AwqFormat) -> None:
        self._source = source
        self._format = packing
        self._part = "qweight" if packing.method == "awq" else "weight_packed"
        parts = _AWQ_PARTS if packing.method == "awq" else _PACKED_PARTS
        modules = {name.removesuffix(f".{self._part}") for name in source.names if name.endswith(f".{self._part}")}
        refused = [name for name in source.names if name.rpartition(".")[2] in _REFUSED_PARTS]
        if refused:
            raise InvalidInput(
                Reason.UNSUPPORTED_BASE, f'tensor "{refused[0]}" belongs to a packing that is not known here'
            )
        packed = {f"{module}.{part}" for module in modules for part in parts}
        self.quantized = frozenset(f"{module}.weight" for module in modules)
        """Names of the packed weights."""
        self.names = (source.names - packed) | self.quantized

    def read(self, name: str) -> torch.Tensor:
        if name not in self.quantized:
            return self._source.read(name)
        module = name.removesuffix(".weight")
        return self._awq(module) if self._format.method == "awq" else self._packed(module)

    def _awq(self, module: str) -> torch.Tensor:
        weight, zeros, scales = (self._source.read(f"{module}.{part}") for part in _AWQ_PARTS)
        group = self._format.group_size if self._format.group_size > 0 else weight.shape[0]
        levels = unpack_awq(weight, self._format.bits) - _repeat(unpack_awq(zeros, self._format.bits), group)
        dequantized: torch.Tensor = (levels * _repeat(scales.float(), group)).T.contiguous()
        return dequantized

    def _packed(self, module: str) -> torch.Tensor:
        bits = self._format.bits
        rows, columns = (int(size) for size in self._source.read(f"{module}.weight_shape"))
        levels = unpack(self._source.read(f"{module}.weight_packed"), bits)[:, :columns]
        scale = self._source.read(f"{module}.weight_scale").float()
        group = -(-columns // scale.shape[1])
        zero: torch.Tensor | int = 2 ** (bits - 1)
        if f"{module}.weight_zero_point" in self._source.names:
            stored = self._source.read(f"{module}.weight_zero_point")
            packed = stored.dtype == torch.int32
            zeros = unpack(stored.T.contiguous(), bits)[:, :rows].T if packed else stored.int() + 2 ** (bits - 1)
            zero = _repeat(zeros.T, group)[:columns].T
        dequantized: torch.Tensor = (levels - zero) * _repeat(scale.T, group)[:columns].T
        return dequantized


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Returns unsigned numbers of `bits` bits, from the low bits up, along the last dimension; int32."""
    shifts = torch.arange(0, 32 - bits + 1, bits, dtype=torch.int32)
    numbers: torch.Tensor = ((packed[..., None] >> shifts) & (2**bits - 1)).flatten(-2)
    return numbers


def unpack_awq(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Unpacks like `unpack`, and undoes AutoAWQ's order of eight."""
    numbers = unpack(packed, bits)
    order = torch.tensor([ORDER.index(place) for place in range(len(ORDER))])
    return numbers.view(*numbers.shape[:-1], -1, len(ORDER))[..., order].flatten(-2)


def pack_awq(levels: torch.Tensor) -> torch.Tensor:
    """Packs 4 bits as `unpack_awq` unpacks them: (rows, out) to (rows, out/8) int32."""
    grouped = levels.to(torch.int64).view(*levels.shape[:-1], -1, len(ORDER))[..., list(ORDER)]
    shifts = torch.arange(0, 32, 4, dtype=torch.int64)
    whole = (grouped << shifts).sum(-1)
    return torch.where(whole >= 2**31, whole - 2**32, whole).to(torch.int32)


def _repeat(rows: torch.Tensor, group: int) -> torch.Tensor:
    return rows.repeat_interleave(group, 0)


def _unsupported(label: str, given: str, wanted: str) -> InvalidInput:
    return InvalidInput(
        Reason.UNSUPPORTED_BASE, f"{label}: quantization_config has {given}: verification can read {wanted}"
    )
