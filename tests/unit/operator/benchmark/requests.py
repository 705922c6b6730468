"""Requests as a benchmark notes them."""

from datetime import UTC, datetime

from ftm_operator.benchmark.figures import Figures, RequestError, RequestTimes
from ftm_operator.benchmark.load import RequestLoad
from ftm_operator.benchmark.results import BenchmarkResult


def answered(started: float, *chunks: float, tokens: int | None = None) -> RequestTimes:
    return RequestTimes(
        "bot", started, chunks=chunks, input_tokens=10, output_tokens=len(chunks) if tokens is None else tokens
    )


def failed(started: float, kind: str, message: str) -> RequestTimes:
    return RequestTimes("bot", started, error=RequestError(kind, message))


FIGURES = Figures(
    4.0, (answered(0.0, 0.1, 0.2, 0.5), answered(0.5, 0.3, tokens=1), failed(1.0, "Status500", "out of memory"))
)


def result(title: str = "http://a", figures: Figures = FIGURES) -> BenchmarkResult:
    load = RequestLoad(2, rate=1.5)
    return BenchmarkResult(title, "openai-chat", ("bot",), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), load, figures)
