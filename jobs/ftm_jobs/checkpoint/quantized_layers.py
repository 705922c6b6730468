"""Gives a quantized base's packed layers the names and shapes that adapters know them by. Pure.

A layer with weight (out, in), packed at b bits, lies on disk as

    FP8, INT8            weight (out, in), in 8 bits
    GPTQ                 qweight (in·b/32, out), scales (groups, out), g_idx (in)
    AWQ                  qweight (in, out·b/32), scales (groups, out)
    compressed-tensors   weight_packed (out, in·b/32) of I32, or (out, in·b/8) of U8

with scales and zero points beside it. Source: layers/quantization of vLLM (auto_awq.py, auto_gptq.py, fp8.py,
compressed_tensors).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftm_jobs.checkpoint.headers import Header, Tensor

_EIGHT_BITS = ("F8_E4M3", "F8_E5M2", "I8")
_WORD_BITS = {"I32": 32, "U8": 8}
_SERVED_DTYPE = "BF16"
"""The engine adds an adapter's product to a layer's output, which has 16 bits."""


def layers_as_served(headers: Sequence[Header], quantization: Mapping[str, Any]) -> tuple[Header, ...]:
    """Returns the headers with a 16-bit `….weight` (out, in) in the place of each packed layer's tensors.

    `quantization` is config.json's quantization_config.
    """
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    weights = {tensor.name: tensor for tensor in _weights(tensors, quantization)}
    modules = {name.removesuffix(".weight") for name in weights}
    return tuple(
        replace(
            header,
            tensors={
                found.name: found
                for name, tensor in header.tensors.items()
                if (found := _in_place_of(name, tensor, modules, weights)) is not None
            },
        )
        for header in headers
    )


def _in_place_of(name: str, tensor: Tensor, modules: set[str], weights: Mapping[str, Tensor]) -> Tensor | None:
    module, _, part = name.rpartition(".")
    if module not in modules or part == "bias":
        return tensor
    return weights[f"{module}.weight"] if part in ("weight", "qweight", "weight_packed") else None


def _weights(tensors: Mapping[str, Tensor], quantization: Mapping[str, Any]) -> Iterator[Tensor]:
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        shape = None
        if part == "weight" and tensor.dtype in _EIGHT_BITS:
            shape = tensor.shape
        elif part == "qweight" and f"{module}.scales" in tensors:
            shape = _awq_or_gptq(tensor, tensors[f"{module}.scales"], tensors.get(f"{module}.g_idx"), quantization)
        elif part == "weight_packed" and tensor.dtype in _WORD_BITS and len(tensor.shape) == 2:
            outputs, words = tensor.shape
            shape = outputs, words * _WORD_BITS[tensor.dtype] // _bits(quantization)
        if shape is not None:
            yield Tensor(f"{module}.weight", _SERVED_DTYPE, shape, tensor.offset, tensor.size)


def _awq_or_gptq(
    packed: Tensor, scales: Tensor, order: Tensor | None, quantization: Mapping[str, Any]
) -> tuple[int, int]:
    """Returns (out, in): AWQ packs along the outputs, GPTQ along the inputs."""
    outputs = scales.shape[-1]
    if packed.shape[-1] != outputs:
        return outputs, packed.shape[0]
    return outputs, order.shape[0] if order else packed.shape[0] * 32 // _bits(quantization)


def _bits(quantization: Mapping[str, Any]) -> int:
    """Returns bits of a number: 4 where the config does not say."""
    groups = quantization.get("config_groups")
    schemes = [_as_object(group).get("weights") for group in _as_object(groups).values()]
    named = [_as_object(scheme).get("num_bits") for scheme in schemes]
    for bits in (*named, quantization.get("bits"), quantization.get("w_bit")):
        if type(bits) is int and 0 < bits <= 8:
            return bits
    return 4


def _as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
