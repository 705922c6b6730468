"""The report's page shows every figure and verdict, runs no script, and trusts no text."""

from html.parser import HTMLParser
from typing import Any

import pytest

from ftm_jobs.verify.figures.checks import NOT_FINITE
from ftm_jobs.verify.report_page.page import render_page

FIGURES = {"tokens": 10, "kl": 0.5, "klLargest": 2.0, "sameTopToken": 0.9, "flipped": 1}
PERPLEXITY = {"perplexity": {"reference": 12.0, "other": 13.0}}


def compared(reference: str, other: str, **figures: Any) -> dict[str, Any]:
    found = {**FIGURES, **PERPLEXITY, **figures}
    flip = {"text": "a <b>", "wanted": "x", "found": "<y>", "margin": 0.25}
    return {
        "reference": reference,
        "other": other,
        "meaning": "what",
        **found,
        "flips": [flip],
        "texts": [{"name": "t", **found}],
    }


def content(*, passed: bool) -> dict[str, Any]:
    check = {"name": "BetterThanRounding", "value": 0.5, "bound": 1.0, "unit": "nats/token", "passed": passed}
    answer = {
        "text": "says <script>alert(1)</script> 45 days",
        "ended": True,
        "smallestMargin": 0.5,
        "lacks": ["46 days"],
    }
    leaves = {"token": 3, "wanted": "a", "found": "b", "referenceMargin": 0.1, "margin": 0.2}
    return {
        "passed": passed,
        "reason": "Verified" if passed else "WorseThanRounding",
        "message": "the <message>",
        "checks": [{**check, "sentence": "it went so"}],
        "models": {"base": "s3://b/base", "adapters": ["s3://b/a"], "merged": "s3://b/merged", "quantized": "s3://b/q"},
        "engine": "llama.cpp",
        "yardstick": "4 bit in groups of 64",
        "comparisons": [
            compared("base+adapter", "base"),
            compared("base+adapter", "merged", kl=1e-5),
            compared("merged", "plain"),
            compared("merged", "quantized", kl=None),
        ],
        "answers": [
            {
                "prompt": "Who & when?",
                "expect": ["45 days", "46 days"],
                "answers": [{"model": "base+adapter", **answer}, {"model": "quantized", **answer, "leavesAt": leaves}],
            }
        ],
        "differences": {"config": ["rope was lost"], "tokenizer": []},
        "notes": ["a note"],
    }


class _Tags(HTMLParser):
    """Every tag is closed in its turn."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("passed", [True, False])
def test_a_page_is_whole_loads_nothing_and_escapes_what_models_say(passed: bool) -> None:
    found = render_page(content(passed=passed))
    tags = _Tags()
    tags.feed(found)
    assert not tags.open
    assert {"svg", "table"} <= tags.seen
    assert not tags.seen & {"script", "img", "link", "iframe"}
    assert "http" not in found
    assert "&lt;script&gt;" in found
    assert "the &lt;message&gt;" in found
    assert "<mark>45 days</mark>" in found
    for shown in ("lacks “46 days”", "4 bit in groups of 64", "A note.", "Rope was lost.", "not finite", "25.0 %"):
        assert shown in found
    assert ("Not verified: WorseThanRounding" in found) is not passed


def test_an_expected_text_is_marked_once_whatever_it_holds_and_however_it_is_spelled() -> None:
    shown = content(passed=True)
    shown["answers"][0]["expect"] = ["45", "<b>45 Days</b>", ""]
    shown["answers"][0]["answers"][0]["text"] = "after <b>45 days</b>, not 45"
    assert "after <mark>&lt;b&gt;45 days&lt;/b&gt;</mark>, not <mark>45</mark>" in render_page(shown)


def test_a_figure_that_is_not_finite_is_said_to_be_so() -> None:
    shown = content(passed=False)
    shown["checks"][0]["value"] = NOT_FINITE
    assert 'class="figure">not finite <span>must be below 1 nats/token' in render_page(shown)
