"""Puts tensors together that are alike: a model of 100,000 tensors in a few dozen lines. Pure.

Two tensors are alike if their names differ in whole numbers alone (model.layers.7.mlp.up_proj.weight) and their
shapes and dtypes are the same. What is beyond the decoder becomes BEYOND: DeepSeek-V3 keeps its multi-token prediction
in model.layers.61, Qwen3-Next in mtp.layers, and engines load either for speculation only.
"""

from collections import Counter
from collections.abc import Iterable

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.contract.facts import BEYOND, TensorGroup, of_encoder

NUMBER = "*"


def tensor_groups(tensors: Iterable[Tensor], layers: int | None) -> tuple[TensorGroup, ...]:
    """Returns the groups, sorted by name, shape and dtype.

    `layers` is the number of decoder layers; None, where it is not known: no layer lies beyond them.
    """
    counts = Counter((group_name(each.name, layers), each.shape, each.dtype) for each in tensors)
    return tuple(
        TensorGroup(name=name, shape=shape, dtype=dtype, count=count)
        for (name, shape, dtype), count in sorted(counts.items())
    )


def is_beyond(name: str, layers: int) -> bool:
    """Says whether a tensor lies beyond the decoder."""
    return BEYOND in group_name(name, layers).split(".")


def group_name(name: str, layers: int | None) -> str:
    """Returns the name with a sign for each whole number that is a part of it."""
    parts = name.split(".")
    decoder = not (of_encoder(name) or any(part.startswith("encoder") for part in parts))
    for position, part in enumerate(parts):
        if part.isdecimal():
            numbered = decoder and position and parts[position - 1] == "layers"
            beyond = numbered and layers is not None and int(part) >= layers
            parts[position] = BEYOND if beyond else NUMBER
        elif decoder and part.startswith("mtp"):
            parts[position] = BEYOND
    return ".".join(parts)
