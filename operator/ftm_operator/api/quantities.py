"""Reads and checks resource quantities as Kubernetes writes them: 500m, 30Gi.

The parser is the Kubernetes client's, and the one thing of that client that the packages below runtime may import. It
is pure. The client behind it costs an import of 0.1 s and 13 MB, which the operator and `ftm` pay in any case.
"""

import re
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

PATTERN = r"\+?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?"
"""Quantities that are not negative, to Python and to an API server's RE2."""


def quantity(value: str | int) -> Decimal:
    """Returns a resource quantity as a number: 1073741824 for "1Gi". Raises ValueError when it is none."""
    number: Decimal = parse_quantity(value)  # type: ignore[no-untyped-call]
    return number


def is_quantity(value: object) -> bool:
    """Returns whether a value of a manifest is a quantity that is not negative."""
    if isinstance(value, str):
        return re.fullmatch(PATTERN, value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def binary_quantity(size_bytes: int) -> str:
    """Returns bytes as the API server writes them back: whole mebibytes, or gibibytes when they are whole."""
    mebibytes = -(-size_bytes // 2**20)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"
