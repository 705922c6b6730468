"""What a quantizer made and what people should know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Quantized:
    quantization: Mapping[str, str | int | bool]
    """As in the manifest: method, type or bits and group size, engine."""
    notes: tuple[str, ...] = ()
    """Sentences for people: tensors that fell back to another type, widths that were padded."""
    measurements: Mapping[str, int | float] = field(default_factory=dict)
