"""Writes numbers of bytes for people: in decimal units, as disks and networks are sold, and in GiB, as GPUs are."""

MIB, GIB = 2**20, 2**30
_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB")


def format_bytes(count: float) -> str:
    """Returns some three digits and a unit, for sentences: `14.5 GB`, `310 MB`."""
    number, unit = _scaled(count)
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def format_bytes_in_column(count: float) -> str:
    """Returns a number with two decimals and a unit, for tables: `269.03 MB`."""
    number, unit = _scaled(count)
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.2f} {unit}"


def format_gib(count: float) -> str:
    """Returns GiB with two decimals: `13.49 GiB`."""
    return f"{count / GIB:.2f} GiB"


def _scaled(count: float) -> tuple[float, str]:
    unit = 0
    while count >= 1000 and unit < len(_DECIMAL_UNITS) - 1:
        count /= 1000
        unit += 1
    return count, _DECIMAL_UNITS[unit]
