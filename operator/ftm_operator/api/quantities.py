"""Quantities of resources as Kubernetes writes them: 500m, 30Gi."""

from decimal import Decimal

SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
"""Source: the Kubernetes API's resource.Quantity."""


def quantity(value: str | int) -> Decimal:
    """A resource quantity as a number: "1Gi" is 1073741824. Raises ArithmeticError when it is none."""
    text = str(value)
    for length in (2, 1):
        if text[-length:] in SUFFIXES:
            return Decimal(text[:-length]) * SUFFIXES[text[-length:]]
    return Decimal(text)
