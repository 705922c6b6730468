"""Computes a benchmark's figures from what its requests took. Pure.

TTFT  time to first token: from the request to the first chunk of its answer
TPOT  time per output token: (E2EL - TTFT) / (output tokens - 1), of answers with more than one token
ITL   inter-token latency: between two chunks of one answer; those of all answers together
E2EL  end-to-end latency: from the request to the last chunk of its answer

Percentiles lie on the line between two values, and a standard deviation is that of all values, as numpy computes both.
Names and formulae are those of `vllm bench serve`; source: vllm/benchmarks/serve.py, calculate_metrics.
"""

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

PERCENTILES = (50, 90, 99)
METRICS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "inter-token latency",
    "e2el": "end-to-end latency",
}


@dataclass(frozen=True)
class RequestError:
    """The reason that a request got no whole answer."""

    kind: str
    """One word for all errors alike, to count them by."""
    message: str


@dataclass(frozen=True)
class RequestTimes:
    """One request: what it took, or why it failed. Times are in seconds."""

    model: str
    """The value of `model` that it was sent with."""
    started: float
    """The time of the request, since the benchmark began."""
    queued: float = 0.0
    """The time that it waited here for others to end."""
    chunks: tuple[float, ...] = ()
    """The time of each chunk of the answer, since the request."""
    input_tokens: int = 0
    output_tokens: int = 0
    is_counted: bool = True
    """False: the endpoint told no usage, and the chunks were counted."""
    error: RequestError | None = None

    @property
    def ttft(self) -> float:
        return self.chunks[0] if self.chunks else 0.0

    @property
    def e2el(self) -> float:
        return self.chunks[-1] if self.chunks else 0.0

    @property
    def itls(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.chunks)]

    @property
    def tpot(self) -> float | None:
        return (self.e2el - self.ttft) / (self.output_tokens - 1) if self.output_tokens > 1 else None


@dataclass(frozen=True)
class Distribution:
    """Figures of many values, in their unit; all are 0 where there are none."""

    mean: float
    median: float
    std: float
    percentiles: dict[int, float]


@dataclass(frozen=True)
class Figures:
    """A benchmark's result."""

    duration: float
    """Seconds from the first request to the end of the last."""
    requests: tuple[RequestTimes, ...]

    @property
    def completed(self) -> list[RequestTimes]:
        return [each for each in self.requests if each.error is None]

    @property
    def errors(self) -> dict[str, int]:
        """Returns how many requests failed, by kind of error."""
        return dict(Counter(each.error.kind for each in self.requests if each.error).most_common())

    @property
    def input_tokens(self) -> int:
        return sum(each.input_tokens for each in self.completed)

    @property
    def output_tokens(self) -> int:
        return sum(each.output_tokens for each in self.completed)

    @property
    def request_throughput(self) -> float:
        return len(self.completed) / self.duration

    @property
    def output_throughput(self) -> float:
        """Returns output tokens per second."""
        return self.output_tokens / self.duration

    def values(self, metric: str) -> list[float]:
        """Returns a metric's values in seconds; of `itl` one for each chunk after the first, else one a request."""
        match metric:
            case "ttft":
                return [each.ttft for each in self.completed]
            case "tpot":
                return [each.tpot for each in self.completed if each.tpot is not None]
            case "itl":
                return [gap for each in self.completed for gap in each.itls]
            case _:
                return [each.e2el for each in self.completed]

    def milliseconds(self, metric: str) -> Distribution:
        return distribution([1000 * value for value in self.values(metric)])


def distribution(values: Sequence[float]) -> Distribution:
    """Returns mean, median, standard deviation and percentiles of values."""
    if not values:
        return Distribution(0.0, 0.0, 0.0, dict.fromkeys(PERCENTILES, 0.0))
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    percentiles = {share: cuts[share - 1] for share in PERCENTILES}
    return Distribution(statistics.fmean(values), statistics.median(values), statistics.pstdev(values), percentiles)


def per_second(figures: Figures) -> tuple[list[int], list[int]]:
    """Returns the chunks that came in each second, and the requests that were in flight in it."""
    requests = figures.completed
    if not requests:
        return [], []
    begin = min(each.started for each in requests)
    seconds = ceil(max(each.started + each.e2el for each in requests) - begin) + 1
    chunks, in_flight = [0] * seconds, [0] * seconds
    for each in requests:
        for chunk in each.chunks:
            chunks[int(each.started + chunk - begin)] += 1
        for second in range(int(each.started - begin), int(each.started + each.e2el - begin) + 1):
            in_flight[second] += 1
    return chunks, in_flight


def figures_json(figures: Figures, *, detailed: bool) -> dict[str, Any]:
    """Returns the figures under the keys of `vllm bench serve`; `detailed`: with those of each request."""
    chunks, in_flight = per_second(figures)
    result: dict[str, Any] = {
        "duration": figures.duration,
        "completed": len(figures.completed),
        "failed": len(figures.requests) - len(figures.completed),
        "total_input_tokens": figures.input_tokens,
        "total_output_tokens": figures.output_tokens,
        "request_throughput": figures.request_throughput,
        "output_throughput": figures.output_throughput,
        "total_token_throughput": (figures.input_tokens + figures.output_tokens) / figures.duration,
        "max_output_tokens_per_s": float(max(chunks, default=0)),
        "max_concurrent_requests": max(in_flight, default=0),
    }
    for metric in METRICS:
        of_metric = figures.milliseconds(metric)
        result[f"mean_{metric}_ms"] = of_metric.mean
        result[f"median_{metric}_ms"] = of_metric.median
        result[f"std_{metric}_ms"] = of_metric.std
        result |= {f"p{share}_{metric}_ms": value for share, value in of_metric.percentiles.items()}
    result["errors_by_kind"] = figures.errors
    return result | (_each_request(figures) if detailed else {})


def _each_request(figures: Figures) -> dict[str, Any]:
    requests = figures.requests
    return {
        "input_lens": [each.input_tokens for each in requests],
        "output_lens": [0 if each.error else each.output_tokens for each in requests],
        "ttfts": [each.ttft for each in requests],
        "itls": [each.itls for each in requests],
        "latencies": [each.e2el for each in requests],
        "start_times": [each.started for each in requests],
        "queue_times": [each.queued for each in requests],
        "errors": [each.error.message if each.error else "" for each in requests],
        "models": [each.model for each in requests],
    }
