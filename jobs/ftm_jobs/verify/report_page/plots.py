"""Computes where the report's plots have their dots, bars and gauges; data/verification_plots.svg draws them.

Logarithmic scales span whole decades. Lengths are in units of the drawing's view box.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 1000
DOTS_LEFT = 64
DOTS_RIGHT = WIDTH - 16
DOTS_HEIGHT, DOTS_TOP, DOTS_BOTTOM = 300, 12, 26
BARS_LEFT = 130
ROW_HEIGHT = 34
_SMALLEST = 1e-9
"""Nats per token; smaller figures are drawn there."""
_MOST_NUMBERS = 20
"""Columns that are numbered."""


@dataclass(frozen=True)
class Decade:
    """A horizontal line of the grid."""

    y: float
    label: str


@dataclass(frozen=True)
class Dot:
    """The divergence of one text."""

    x: float
    y: float
    text: str
    value: float


@dataclass(frozen=True)
class DotSeries:
    """The divergence of all texts between two models."""

    name: str
    colour: str
    dots: tuple[Dot, ...]
    mean_y: float | None
    """Height of the mean; None without a finite figure."""


@dataclass(frozen=True)
class ColumnNumber:
    """The number below a column."""

    x: float
    number: int


@dataclass(frozen=True)
class DotPlot:
    """A column for each text and a dot for each series, on a logarithmic scale."""

    decades: tuple[Decade, ...]
    series: tuple[DotSeries, ...]
    numbers: tuple[ColumnNumber, ...]
    width: int = WIDTH
    height: int = DOTS_HEIGHT
    left: int = DOTS_LEFT
    right: int = DOTS_RIGHT


@dataclass(frozen=True)
class Bar:
    """A figure of one model; `width` is None where the figure is not finite."""

    name: str
    colour: str
    top: int
    width: float | None
    label: str


@dataclass(frozen=True)
class BarPlot:
    """One bar below the other, from zero."""

    bars: tuple[Bar, ...]
    width: int = WIDTH
    left: int = BARS_LEFT
    bar_height: int = ROW_HEIGHT - 10

    @property
    def height(self) -> int:
        return ROW_HEIGHT * len(self.bars)


@dataclass(frozen=True)
class Gauge:
    """A figure beside its bound, on a logarithmic scale."""

    value_x: float
    bound_x: float

    @property
    def label_x(self) -> float:
        """Returns the middle of the bound's label, which stays inside the drawing."""
        return min(270.0, max(24.0, self.bound_x))


def dot_plot(texts: Sequence[str], series: Mapping[str, Sequence[float | None]], colours: Mapping[str, str]) -> DotPlot:
    """Places each series' figures over the columns of `texts`; both mappings are by the series' names."""
    low, high = _decades([value for values in series.values() for value in values if value is not None])
    step = (DOTS_RIGHT - DOTS_LEFT) / max(1, len(texts))

    def x(place: int) -> float:
        return DOTS_LEFT + step * (place + 0.5)

    def y(value: float) -> float:
        return DOTS_TOP + (DOTS_HEIGHT - DOTS_TOP - DOTS_BOTTOM) * (1 - _share(value, low, high))

    def placed(name: str, values: Sequence[float | None]) -> DotSeries:
        finite = [value for value in values if value is not None]
        dots = (Dot(x(place), y(v), texts[place], v) for place, v in enumerate(values) if v is not None)
        return DotSeries(name, colours[name], tuple(dots), y(sum(finite) / len(finite)) if finite else None)

    return DotPlot(
        tuple(Decade(y(10.0**decade), _power(decade)) for decade in range(low, high + 1)),
        tuple(placed(name, values) for name, values in series.items()),
        tuple(ColumnNumber(x(n), n + 1) for n in range(0, len(texts), max(1, len(texts) // _MOST_NUMBERS))),
    )


def bar_plot(rows: Sequence[tuple[str, float | None, str]]) -> BarPlot:
    """Places a bar for each row of name, value and colour."""
    longest = max((value for _, value, _ in rows if value is not None), default=1.0) or 1.0

    def bar(row: int, name: str, value: float | None, colour: str) -> Bar:
        width = None if value is None else (WIDTH - BARS_LEFT - 90) * value / longest
        return Bar(name, colour, row * ROW_HEIGHT + 4, width, "" if value is None else f"{value:,.4g}")

    return BarPlot(tuple(bar(number, *row) for number, row in enumerate(rows)))


def gauge(value: float, bound: float) -> Gauge:
    """Places a figure and its bound on a scale that holds both."""
    low, high = _decades([value, bound])
    return Gauge(4 + 292 * _share(value, low, high), 4 + 292 * _share(bound, low, high))


def _share(value: float, low: int, high: int) -> float:
    """Returns where a figure is between the powers of ten `low` and `high`, from 0 to 1."""
    return min(1.0, max(0.0, (math.log10(max(value, _SMALLEST)) - low) / (high - low)))


def _decades(values: Sequence[float]) -> tuple[int, int]:
    positive = [min(max(value, _SMALLEST), 1e6) for value in values] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return low, max(high, low + 1)


def _power(decade: int) -> str:
    return f"{10.0**decade:g}" if -4 < decade < 4 else f"1e{decade}"
