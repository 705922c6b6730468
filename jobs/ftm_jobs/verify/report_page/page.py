"""Renders report.html from what verification.json holds, for whoever decides whether to serve a model.

The page runs no script and loads nothing. Its markup is in data/verification.html; jinja2 escapes every text of models
and users.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2

from ftm_jobs.verify.figures.checks import NATS, NOT_FINITE
from ftm_jobs.verify.report_page.plots import BarPlot, DotPlot, bar_plot, dot_plot, gauge

TEMPLATE = "verification.html"
COLOURS = {
    "base": "base",
    "base+adapter": "adapted",
    "coarse": "base",
    "merged": "merged",
    "plain": "plain",
    "quantized": "quantized",
}
_PLOTTED = {
    ("base+adapter", "base"): ("adapter's effect", "adapted"),
    ("base+adapter", "merged"): ("merge", "merged"),
    ("merged", "plain"): ("plain rounding", "plain"),
    ("merged", "quantized"): ("quantized", "quantized"),
}
_WITH_FLIPS = (("base+adapter", "merged"), ("merged", "quantized"))
_RELATIONS = {"AdapterEffect": "must exceed", "BetterThanRounding": "must be below"}
_HEADINGS = {
    "AdapterEffect": "The adapter has an effect",
    "MergeAgrees": "The merge is base+adapter",
    "MergedWeights": "Every tensor is base+adapter",
    "ConfigParity": "The config is the same",
    "TokenizerParity": "The tokenizer is the same",
    "BetterThanRounding": "Better than plain rounding",
    "MaxDivergence": "Within maxDivergence",
    "ExpectedAnswers": "The answers are as expected",
}


def render_page(content: Mapping[str, Any]) -> str:
    """Returns the whole document; `content` is what verification.json holds."""
    comparisons = content["comparisons"]
    drawn = {
        "checks": [check | {"gauge": gauge(check["value"], check["bound"])} for check in content["checks"]],
        "model_rows": _model_rows(content),
        "dots": _dots(comparisons) if comparisons else None,
        "bars": _bars(comparisons),
        "flips": [
            (each["other"], flip)
            for each in comparisons
            if (each["reference"], each["other"]) in _WITH_FLIPS
            for flip in each["flips"]
        ],
        "remarks": [*(each for kind in content["differences"].values() for each in kind), *content["notes"]],
    }
    return _environment().get_template(TEMPLATE).render({**content, **drawn})


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ftm_jobs", "data"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "coordinate": "{:.1f}".format,
        "expected_parts": _expected_parts,
        "figure": lambda value: "not finite" if value is None else f"{value:,.3g}",
        "finite": lambda value: None if value >= NOT_FINITE else value,
        "last_name": lambda uri: uri.rstrip("/").rpartition("/")[2],
        "percent": lambda value: "not finite" if value is None else f"{100 * value:.1f} %",
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
    }
    environment.globals |= {"colours": COLOURS, "headings": _HEADINGS, "nats": NATS, "relations": _RELATIONS}
    return environment


def _model_rows(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    models = content["models"]
    rows = [("base", models["base"]), *(("adapter", uri) for uri in models["adapters"]), ("merged", models["merged"])]
    if models["quantized"]:
        rows += [("quantized", models["quantized"]), ("measured with", content["engine"])]
        rows.append(("held against", f"plain rounding, {content['yardstick']}"))
    return rows


def _dots(comparisons: Sequence[Mapping[str, Any]]) -> DotPlot:
    series, colours = {}, {}
    for comparison in comparisons:
        if (pair := (comparison["reference"], comparison["other"])) in _PLOTTED:
            name, colours[name] = _PLOTTED[pair]
            series[name] = [text["kl"] for text in comparison["texts"]]
    return dot_plot([text["name"] for text in comparisons[0]["texts"]], series, colours)


def _bars(comparisons: Sequence[Mapping[str, Any]]) -> BarPlot:
    perplexity = {each[side]: each["perplexity"][side] for each in comparisons for side in ("reference", "other")}
    shown = [name for name in COLOURS if name in perplexity and name != "coarse"]
    return bar_plot([(name, perplexity[name], COLOURS[name]) for name in shown])


def _expected_parts(text: str, expected: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yields an answer in parts, each with whether it is one of the texts that are expected of it."""
    longest_first = sorted(filter(None, expected), key=len, reverse=True)
    if not longest_first:
        yield text, False
        return
    parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text, flags=re.IGNORECASE)
    for number, part in enumerate(parts):
        if part:
            yield part, number % 2 == 1
