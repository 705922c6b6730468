"""Shows benchmarks as tables and as JSON, and two of them side by side. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ftm_operator.benchmark.figures import METRICS, PERCENTILES, Figures, figures_json
from ftm_operator.benchmark.load import RequestLoad

BACKENDS = {True: "openai", False: "openai-chat"}
"""The name of `vllm bench serve` for the API that was asked, by whether it was /v1/completions."""

TITLES = {
    "request_throughput": "requests per second",
    "output_throughput": "output tokens per second",
    **{f"median_{metric}_ms": f"median {metric.upper()}, ms" for metric in METRICS},
}


@dataclass(frozen=True)
class BenchmarkResult:
    """One endpoint's figures, and what was asked of it."""

    title: str
    """The endpoint as the person named it."""
    backend: str
    """The API, as `vllm bench serve` names it, or the library that was called."""
    models: tuple[str, ...]
    """The values of `model` that requests were sent with, in turn."""
    began: datetime
    load: RequestLoad
    figures: Figures
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Returns what a reader must know of the figures."""
        uncounted = sum(not each.is_counted for each in self.figures.completed)
        told = f"{uncounted} answers came without their number of tokens; each chunk was counted as one"
        return [*self.remarks, *([told] if uncounted else [])]

    @property
    def pace(self) -> str:
        """Returns the requests' number and pace in words."""
        rate, concurrency = self.load.rate, self.load.concurrency
        parts = [f"{len(self.figures.requests)} requests"]
        parts += [f"{rate:g} a second"] if rate else []
        parts += [f"{concurrency} at once" + (" at most" if rate else "")] if concurrency else []
        return ", ".join(parts)

    def to_json(self, *, detailed: bool) -> dict[str, Any]:
        """Returns the result under the keys of `vllm bench serve`."""
        return {
            "date": self.began.strftime("%Y%m%d-%H%M%S"),
            "endpoint_type": self.backend,
            "backend": self.backend,
            "label": self.title,
            "model_id": ",".join(self.models),
            "num_prompts": len(self.figures.requests),
            "request_rate": self.load.rate or "inf",
            "burstiness": 1.0,
            "max_concurrency": self.load.concurrency,
            **figures_json(self.figures, detailed=detailed),
            "notes": self.notes,
        }


def compared(first: Figures, second: Figures) -> dict[str, tuple[float, float, float | None]]:
    """Returns the figures of both, and the first's divided by the second's; None where that is 0."""

    def all_of(figures: Figures) -> dict[str, float]:
        medians = {f"median_{metric}_ms": figures.milliseconds(metric).median for metric in METRICS}
        return {
            "request_throughput": figures.request_throughput,
            "output_throughput": figures.output_throughput,
            **medians,
        }

    others = all_of(second)
    return {
        name: (one, others[name], one / others[name] if others[name] else None) for name, one in all_of(first).items()
    }


def comparison_json(first: BenchmarkResult, second: BenchmarkResult, *, detailed: bool) -> dict[str, Any]:
    """Returns both results, and the first's figures divided by the second's."""
    both = compared(first.figures, second.figures)
    results = [each.to_json(detailed=detailed) for each in (first, second)]
    return {"results": results, "ratios": {name: ratio for name, (*_, ratio) in both.items()}}


def format_result(result: BenchmarkResult) -> str:
    """Returns a result as a table for people."""
    figures = result.figures
    columns = ["mean", "std", *(f"p{share}" for share in PERCENTILES)]
    lines = [
        f"{result.title}, model {', '.join(result.models)}: {result.pace}, in {figures.duration:.1f} s",
        f"  {'requests per second':<31} {figures.request_throughput:>9.2f}",
        f"  {'output tokens per second':<31} {figures.output_throughput:>9.1f}",
        f"  {'input tokens':<31} {figures.input_tokens:>9}",
        f"  {'output tokens':<31} {figures.output_tokens:>9}",
        f"  {'milliseconds':<31}" + "".join(f" {column:>9}" for column in columns),
    ]
    for metric, title in METRICS.items():
        of_metric = figures.milliseconds(metric)
        values = [of_metric.mean, of_metric.std, *of_metric.percentiles.values()]
        lines.append(f"  {title:<24} {metric.upper():<6}" + "".join(f" {value:>9.1f}" for value in values))
    return "\n".join([*lines, *_errors(result), *(f"note: {note}" for note in result.notes)])


def format_comparison(first: BenchmarkResult, second: BenchmarkResult) -> str:
    """Returns both tables, and then their figures side by side with the first's divided by the second's."""
    lines = [f"A is {_name(first)}, B is {_name(second)}", f"  {'':<31} {'A':>9} {'B':>9} {'A / B':>9}"]
    both = compared(first.figures, second.figures)
    lines += [_compared(TITLES[name], *values) for name, values in both.items()]
    return "\n\n".join([format_result(first), format_result(second), "\n".join(lines)])


def _compared(title: str, one: float, other: float, ratio: float | None) -> str:
    shown = "" if ratio is None else f"{ratio:.2f}"
    return f"  {title:<31} {one:>9.1f} {other:>9.1f} {shown:>9}"


def _name(result: BenchmarkResult) -> str:
    return f"{result.title}, model {', '.join(result.models)}"


def _errors(result: BenchmarkResult) -> Iterator[str]:
    errors = [each.error for each in result.figures.requests if each.error]
    if errors:
        yield f"{len(errors)} of {len(result.figures.requests)} requests failed; their tokens and times are not counted"
    for kind, number in Counter(each.kind for each in errors).most_common():
        message = next(each.message for each in errors if each.kind == kind)
        yield f"  {number:>5} {kind}: {message}"
