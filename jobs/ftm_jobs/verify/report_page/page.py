"""report.html: a verification on one page, for whoever decides whether to serve it. No script, nothing loaded.

Pure: what verification.json holds comes in, a document comes out. All text of models and users is escaped.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ftm_jobs.verify.report_page import plots as svg_plots

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
_NATS = "nats/token"
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


def page(content: Mapping[str, Any]) -> str:
    passed = content["passed"]
    return Template(files("ftm_jobs").joinpath("data", "verification.html").read_text("utf-8")).substitute(
        title=f"{'Verified' if passed else 'Not verified'}: {escape(_last(content['models']['merged']))}",
        verdict_class="pass" if passed else "fail",
        verdict="Verified" if passed else f"Not verified: {escape(content['reason'])}",
        heading="What is served is what was trained" if passed else "This model should not be served as it is",
        message=escape(content["message"]),
        models=_models(content),
        checks="".join(_check(check) for check in content["checks"]),
        plots=_plots(content["comparisons"]),
        answers=_answers(content["answers"]),
        flips=_flips(content["comparisons"]),
        comparisons=_comparisons(content["comparisons"]),
        remarks=_remarks(content),
    )


def _models(content: Mapping[str, Any]) -> str:
    models = content["models"]
    rows = [("base", models["base"]), *(("adapter", uri) for uri in models["adapters"]), ("merged", models["merged"])]
    if models["quantized"]:
        rows += [("quantized", models["quantized"]), ("measured with", content["engine"])]
        rows.append(("held against", f"plain rounding, {content['yardstick']}"))
    return "".join(f'<dt>{escape(name)}</dt><dd class="mono">{escape(value)}</dd>' for name, value in rows)


def _check(check: Mapping[str, Any]) -> str:
    passed = check["passed"]
    badge = f'<span class="badge {"pass" if passed else "fail"} small">{"passed" if passed else "failed"}</span>'
    is_kl = check["unit"] == _NATS
    figure = f"{check['value']:.3g}" if is_kl else f"{check['value']:.0f}"
    relation = {"AdapterEffect": "must exceed", "BetterThanRounding": "must be below"}.get(check["name"], "at most")
    bound = f"{relation} {check['bound']:.3g} {escape(check['unit'])}"
    gauge = svg_plots.gauge(check["value"], check["bound"], passed) if is_kl else ""
    return (
        f'<div class="card{"" if passed else " failed"}"><div class="head"><b>'
        f"{escape(_HEADINGS.get(check['name'], check['name']))}</b>{badge}</div>"
        f'<div class="figure">{figure} <span>{bound}</span></div>{gauge}'
        f'<p class="soft small">{escape(_sentence(check["sentence"]))}</p></div>'
    )


def _plots(comparisons: Sequence[Mapping[str, Any]]) -> str:
    if not comparisons:
        return ""
    names = [text["name"] for text in comparisons[0]["texts"]]
    series: dict[str, list[float | None]] = {}
    colours: dict[str, str] = {}
    perplexity: dict[str, float | None] = {}
    for each in comparisons:
        pair = each["reference"], each["other"]
        if pair in _PLOTTED:
            name, colours[name] = _PLOTTED[pair]
            series[name] = [text["kl"] for text in each["texts"]]
        for side in ("reference", "other"):
            if each[side] != "coarse":
                perplexity[each[side]] = each["perplexity"][side]
    legend = "".join(f'<span><i style="background:var(--{colours[name]})"></i>{escape(name)}</span>' for name in series)
    order = [name for name in COLOURS if name in perplexity]
    bars = svg_plots.bars([(name, perplexity[name], COLOURS[name]) for name in order])
    return (
        '<h2>Divergence of each text</h2><div class="card"><p class="soft small">Mean KL divergence from the '
        "reference, in nats per token, on a logarithmic scale; dashed: the mean of all texts. Lower is closer. The "
        f'last texts are the questions below with base+adapter\'s answers.</p><div class="legend">{legend}</div>'
        f"{svg_plots.dots(names, series, colours)}</div>"
        '<h2>Perplexity</h2><div class="card"><p class="soft small">On the same texts; lower is better, and '
        f"close to the reference is what counts.</p>{bars}</div>"
    )


def _answers(answers: Sequence[Mapping[str, Any]]) -> str:
    if not answers:
        return ""
    return "<h2>Answers side by side</h2>" + "".join(_answered(each) for each in answers)


def _answered(asked: Mapping[str, Any]) -> str:
    expected = ", ".join(f"“{escape(text)}”" for text in asked["expect"])
    hint = f'<p class="soft small">expected: {expected}</p>' if expected else ""
    given = "".join(_answer(each, asked["expect"]) for each in asked["answers"])
    return f'<div class="card"><b>{escape(asked["prompt"])}</b>{hint}<div class="answers">{given}</div></div>'


def _answer(answer: Mapping[str, Any], expect: Sequence[str]) -> str:
    how = [f"least certain token leads by {_percent(answer['smallestMargin'])}"]
    if "leavesAt" in answer:
        place = answer["leavesAt"]
        how.append(
            f"leaves base+adapter at token {place['token']}: “{place['found']}” for “{place['wanted']}”, which led by "
            f"{_percent(place['referenceMargin'])}"
        )
    if not answer["ended"]:
        how.append("cut here")
    lacks = "".join(f'<span class="how lacks">lacks “{escape(text)}”</span>' for text in answer["lacks"])
    return (
        f'<div class="answer" style="border-left-color:var(--{COLOURS[answer["model"]]})">'
        f'<span class="who">{escape(answer["model"])}</span>{_marked(answer["text"], expect)}{lacks}'
        f'<span class="how">{escape("; ".join(how))}</span></div>'
    )


def _marked(text: str, expect: Iterable[str]) -> str:
    found = escape(text)
    for each in expect:
        found = re.sub(f"({re.escape(escape(each))})", r"<mark>\1</mark>", found, flags=re.IGNORECASE)
    return found


def _flips(comparisons: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (each, flip)
        for each in comparisons
        if (each["reference"], each["other"]) in (("base+adapter", "merged"), ("merged", "quantized"))
        for flip in each["flips"]
    ]
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td>{escape(each['other'])}</td><td class='mono'>…{escape(flip['text'])}</td>"
        f"<td class='mono'>{escape(flip['wanted'])}</td><td class='mono'>{escape(flip['found'])}</td>"
        f"<td class='number'>{_percent(flip['margin'])}</td></tr>"
        for each, flip in rows
    )
    return (
        '<h2>The widest flips</h2><div class="card"><p class="soft small">Where the likeliest next token is another '
        "one. A flip by a few percent is a coin's fall; a wide one is damage.</p><div class='scroll'><table><tr>"
        "<th>model</th><th>after</th><th>reference says</th><th>it says</th><th class='number'>reference's lead</th>"
        f"</tr>{lines}</table></div></div>"
    )


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    lines = "".join(
        f"<tr><td>{escape(each['reference'])}</td><td>{escape(each['other'])}</td><td>{escape(each['meaning'])}</td>"
        f"<td class='number'>{_figure(each['kl'])}</td><td class='number'>{_figure(each['klLargest'])}</td>"
        f"<td class='number'>{_percent(each['sameTopToken'])}</td>"
        f"<td class='number'>{_figure(each['perplexity']['reference'])} → {_figure(each['perplexity']['other'])}</td>"
        f"<td class='number'>{each['tokens']:,}</td></tr>"
        for each in comparisons
    )
    return (
        "<h2>All figures</h2><div class='card scroll'><table><tr><th>reference</th><th>other</th><th>shows</th>"
        "<th class='number'>mean KL</th><th class='number'>largest</th><th class='number'>same top token</th>"
        f"<th class='number'>perplexity</th><th class='number'>tokens</th></tr>{lines}</table></div>"
    )


def _remarks(content: Mapping[str, Any]) -> str:
    found = [*(each for listed in content["differences"].values() for each in listed), *content["notes"]]
    if not found:
        return ""
    items = "".join(f"<li>{escape(_sentence(each))}</li>" for each in found)
    return f"<h2>Remarks</h2><div class='card'><ul>{items}</ul></div>"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:,.3g}"


def _percent(value: float | None) -> str:
    return "not finite" if value is None else f"{100 * value:.1f} %"


def _last(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]
