"""Two plots as SVG text: divergence per text on a logarithmic scale, and bars. Colours are the page's variables.

Pure: numbers in, markup out.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 1000
LEFT = 64
RIGHT = 16
_SMALLEST = 1e-9
"""Nats; what is less is drawn there."""


def dots(names: Sequence[str], series: Mapping[str, Sequence[float | None]], colours: Mapping[str, str]) -> str:
    """A column for each name, a dot for each series, the mean of a series as a dashed line."""
    values = [value for each in series.values() for value in each if value is not None]
    low, high = _decades(values)
    height, top, bottom = 300, 12, 26
    inner = height - top - bottom

    def y(value: float) -> float:
        share = (math.log10(max(value, _SMALLEST)) - low) / (high - low)
        return top + inner * (1 - min(1.0, max(0.0, share)))

    step = (WIDTH - LEFT - RIGHT) / max(1, len(names))
    parts = []
    for decade in range(low, high + 1):
        at = y(10.0**decade)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_power(decade)}</text>')
    for name, found in series.items():
        colour = colours[name]
        known = [value for value in found if value is not None]
        for place, value in enumerate(found):
            if value is not None:
                x = LEFT + step * (place + 0.5)
                title = f"{names[place]}: {name} {value:.3g} nats per token"
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{y(value):.1f}" r="4.5" fill="var(--{colour})" fill-opacity="0.85">'
                    f"<title>{escape(title)}</title></circle>"
                )
        if known:
            at = y(sum(known) / len(known))
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--{colour})" '
                'stroke-dasharray="6 5" stroke-opacity="0.7"/>'
            )
    every = max(1, len(names) // 20)
    parts += [
        f'<text x="{LEFT + step * (place + 0.5):.1f}" y="{height - 6}" text-anchor="middle">{place + 1}</text>'
        for place in range(0, len(names), every)
    ]
    return _svg(height, parts, "KL divergence of each text, in nats per token")


def bars(rows: Sequence[tuple[str, float | None, str]]) -> str:
    """Name, value and colour, one bar below the other, from zero."""
    known = [value for _, value, _ in rows if value is not None]
    longest = max(known, default=1.0) or 1.0
    row, label = 34, 130
    parts = []
    for place, (name, value, colour) in enumerate(rows):
        top = place * row + 4
        parts.append(f'<text class="strong" x="{label - 12}" y="{top + 18}" text-anchor="end">{escape(name)}</text>')
        if value is None:
            parts.append(f'<text x="{label}" y="{top + 18}">not finite</text>')
            continue
        width = (WIDTH - label - 90) * value / longest
        parts.append(
            f'<rect x="{label}" y="{top}" width="{width:.1f}" height="{row - 10}" rx="4" fill="var(--{colour})"/>'
        )
        parts.append(f'<text class="strong" x="{label + width + 8:.1f}" y="{top + 18}">{value:,.4g}</text>')
    return _svg(row * len(rows), parts, "perplexity by model")


def gauge(value: float, bound: float, passed: bool) -> str:
    """A figure beside its bound, on a logarithmic scale."""
    low, high = _decades([value, bound])

    def x(number: float) -> float:
        share = (math.log10(max(number, _SMALLEST)) - low) / (high - low)
        return 4 + 292 * min(1.0, max(0.0, share))

    colour = "pass" if passed else "fail"
    at, limit = x(value), x(bound)
    return (
        '<svg viewBox="0 0 300 30" role="img" aria-label="figure and bound">'
        '<line class="grid" x1="4" x2="296" y1="12" y2="12" stroke-width="4" stroke-linecap="round"/>'
        f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="4" y2="20" stroke="var(--text)" stroke-width="2"/>'
        f'<circle cx="{at:.1f}" cy="12" r="6" fill="var(--{colour})"/>'
        f'<text x="{min(270.0, max(24.0, limit)):.1f}" y="30" text-anchor="middle" style="font-size:10px">bound</text>'
        "</svg>"
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    positive = [min(max(value, _SMALLEST), 1e6) for value in values] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return low, max(high, low + 1)


def _power(decade: int) -> str:
    return f"{10.0**decade:g}" if -4 < decade < 4 else f"1e{decade}"


def _svg(height: int, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
