"""Renders one benchmark, or two side by side, as a page that loads nothing and runs no script.

Its markup is in data/benchmark.html; jinja2 escapes every text of endpoints and users.
"""

from collections.abc import Sequence

import jinja2

from ftm_operator.benchmark.figures import METRICS, PERCENTILES
from ftm_operator.benchmark.plots import in_flight_plot, shares_plot, throughput_plot
from ftm_operator.benchmark.results import TITLES, BenchmarkResult, compared

TEMPLATE = "benchmark.html"


def render_benchmark(results: Sequence[BenchmarkResult]) -> str:
    """Returns the whole document of one result, or of two."""
    names = "AB" if len(results) > 1 else [results[0].title]
    figures = {name: each.figures for name, each in zip(names, results, strict=True)}
    plots = [shares_plot(title.capitalize(), metric, figures) for metric, title in METRICS.items()]
    both = compared(results[0].figures, results[1].figures) if len(results) > 1 else {}
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            results=list(zip(names, results, strict=True)),
            plots=[*plots, throughput_plot(figures), in_flight_plot(figures)],
            compared=[(TITLES[name], *values) for name, values in both.items()],
            metrics=METRICS,
            percentiles=PERCENTILES,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ftm_operator", "data"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = "{:,.1f}".format
    return environment
