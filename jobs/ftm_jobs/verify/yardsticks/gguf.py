"""Chooses the plain rounding that is a fair yardstick for each of GGUF's tensor types.

Bits and group of a type are those of its blocks (ggml-common.h): Q4_K holds 4 bits in groups of 32 with a scale and a
minimum each, Q2_K 2 bits in groups of 16. A type that is plain rounding itself (Q8_0, Q5_1, F16 …) ties with plain
rounding at the same bits, and chance would decide: it is held against one bit less. With quantized weights llama.cpp
rounds what enters a layer to 8 bits too, in groups of 32, or of 256 for K types (ggml-cpu.c, vec_dot_type); the
yardstick does the same. Pure.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ftm_jobs.errors import InvalidInput, Reason


@dataclass(frozen=True)
class Yardstick:
    bits: int
    """Bits of a level, or of a float's mantissa."""
    group: int = 0
    """0: a float."""
    activations: int = 0
    """The group in which a layer's input is rounded to 8 bits; 0: to a float with `bits`."""

    @property
    def is_float(self) -> bool:
        return self.group == 0


YARDSTICKS: dict[str, Yardstick | None] = {
    "F32": None,
    "F16": Yardstick(9),
    "BF16": Yardstick(6),
    "Q8_0": Yardstick(7, 32, 32),
    "Q5_0": Yardstick(4, 32, 32),
    "Q5_1": Yardstick(4, 32, 32),
    "Q4_0": Yardstick(3, 32, 32),
    "Q4_1": Yardstick(3, 32, 32),
    "IQ4_NL": Yardstick(4, 32, 32),
    "IQ4_XS": Yardstick(4, 32, 256),
    "Q6_K": Yardstick(6, 16, 256),
    "Q5_K": Yardstick(5, 32, 256),
    "Q4_K": Yardstick(4, 32, 256),
    "Q3_K": Yardstick(3, 16, 256),
    "Q2_K": Yardstick(2, 16, 256),
}


def yardstick(tensor: str, kind: str) -> Yardstick | None:
    """Returns a type's yardstick; None for one that rounds nothing. Raises InvalidInput for a type without one."""
    if kind not in YARDSTICKS:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f'GGUF tensor "{tensor}" is {kind}, for which verification knows no plain rounding: '
            f"quantize to types made of {', '.join(YARDSTICKS)}",
        )
    return YARDSTICKS[kind]


ENGINE_FLOATS = {"F32": Yardstick(10), "F16": Yardstick(10), "BF16": Yardstick(7)}
"""The floats that llama.cpp's kernels make of what enters a layer of these types; an F32 model's cache is F16."""


def engine_rounding(tensor: str, kind: str) -> Yardstick | None:
    """Returns how llama.cpp rounds what enters a layer of this type. Raises InvalidInput for an unknown type."""
    return ENGINE_FLOATS.get(kind) or yardstick(tensor, kind)


def describe(kinds: Iterable[str]) -> str:
    """Returns `Q5_1 ×180, Q6_K ×31, F32 ×61`, the commonest first."""
    counted = sorted(Counter(kinds).items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{kind} ×{count}" for kind, count in counted)


def describe_yardsticks(kinds: Iterable[str]) -> str:
    """Returns `4 bit in groups of 32 (Q4_K), 6 bit in groups of 16 (Q6_K)`, the commonest first."""
    counted = sorted(Counter(kinds).items(), key=lambda each: (-each[1], each[0]))
    described = []
    for kind, _ in counted:
        rule = YARDSTICKS.get(kind)
        if rule:
            width = f"{rule.bits} bit of mantissa" if rule.is_float else f"{rule.bits} bit in groups of {rule.group}"
            described.append(f"{width} ({kind})")
    return ", ".join(described) or "none"
