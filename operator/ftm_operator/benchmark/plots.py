"""Computes where the benchmark page's plots have their lines and dots; data/benchmark.html draws them.

Lengths are in units of a drawing's view box.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_operator.benchmark.figures import Figures, per_second

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 56, WIDTH - 12, 12, HEIGHT - 34
_TICKS = 5
_MOST_POINTS = 400


@dataclass(frozen=True)
class Tick:
    """A line of the grid, by its place on the axis, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class PlottedLine:
    """The line of one endpoint, as the points of an SVG polyline."""

    name: str
    points: str


@dataclass(frozen=True)
class LinePlot:
    """Lines over a common pair of axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[PlottedLine, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def shares_plot(title: str, metric: str, figures: Mapping[str, Figures]) -> LinePlot:
    """Plots, for each endpoint by its name, the share of a metric's values up to so many milliseconds."""
    curves = {}
    for name, each in figures.items():
        values = sorted(1000 * value for value in each.values(metric))
        kept = sorted({round(place) for place in _spread(len(values))})
        curves[name] = [(values[place], 100 * (place + 1) / len(values)) for place in kept]
    return _plot(title, ("ms", "% of all"), curves, most_y=100)


def throughput_plot(figures: Mapping[str, Figures]) -> LinePlot:
    """Plots, for each endpoint by its name, the chunks that came in each second."""
    curves = {name: list(enumerate(map(float, per_second(each)[0]))) for name, each in figures.items()}
    return _plot("Chunks of answers in each second", ("s", "chunks"), curves)


def in_flight_plot(figures: Mapping[str, Figures]) -> LinePlot:
    """Plots, for each endpoint by its name, the requests that were in flight in each second."""
    curves = {name: list(enumerate(map(float, per_second(each)[1]))) for name, each in figures.items()}
    return _plot("Requests in flight in each second", ("s", "requests"), curves)


def _plot(
    title: str, labels: tuple[str, str], curves: Mapping[str, Sequence[tuple[float, float]]], most_y: float = 0
) -> LinePlot:
    most_x = max((x for curve in curves.values() for x, _ in curve), default=0) or 1.0
    most_y = most_y or max((y for curve in curves.values() for _, y in curve), default=0) or 1.0
    x_ticks, y_ticks = _ticks(most_x), _ticks(most_y)
    end_x, end_y = max(most_x, x_ticks[-1]), max(most_y, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * x / end_x, BOTTOM - (BOTTOM - TOP) * y / end_y

    return LinePlot(
        title,
        *labels,
        tuple(Tick(place(tick, 0)[0], f"{tick:g}") for tick in x_ticks),
        tuple(Tick(place(0, tick)[1], f"{tick:g}") for tick in y_ticks),
        tuple(
            PlottedLine(name, " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve)))
            for name, curve in curves.items()
        ),
    )


def _ticks(most: float) -> list[float]:
    """Returns round numbers from 0 on, of which the last is `most` or less than one step below it."""
    rough = most / _TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    return [round(step * number, 10) for number in range(math.floor(most / step + 1e-9) + 1)]


def _spread(number: int) -> list[float]:
    """Returns at most _MOST_POINTS places of so many values, with the first and the last."""
    points = min(number, _MOST_POINTS)
    return [0.0] * points if points < 2 else [place * (number - 1) / (points - 1) for place in range(points)]
