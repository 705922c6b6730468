"""Reduces the rounds of all ways to a table, ratios and the last line. Pure.

Ways are measured in turn, round by round, and a ratio is taken within a round: a busy neighbour slows all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ftm_operator.benchmark.figures import Figures, distribution

KEYS = ("merged", "dynamic", "hf", "gguf")
"""The ways of the last line, in its order."""


@dataclass(frozen=True)
class MeasuredWay:
    """One way to answer the prompts, over all rounds."""

    title: str
    at_once: int
    rounds: tuple[Figures, ...]

    @property
    def tokens_per_second(self) -> float:
        """Returns the median round's output tokens per second."""
        return median(each.output_throughput for each in self.rounds)

    def milliseconds(self, metric: str) -> float:
        """Returns the median over the requests of all rounds."""
        return distribution([1000 * value for each in self.rounds for value in each.values(metric)]).median

    def ratio(self, other: "MeasuredWay") -> float:
        """Returns the median over the rounds of its tokens per second, divided by the other's in the same round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return median(one.output_throughput / another.output_throughput for one, another in pairs)


def format_ways(ways: Sequence[MeasuredWay], against: MeasuredWay) -> str:
    """Returns a table with a line for each way, and its ratio to one of them."""
    heading = f"{'':<34}{'at once':>8}{'tokens/s':>10}{'TTFT p50':>11}{'TPOT p50':>11}{f'by {against.title}':>25}"
    return "\n".join([heading, *(_line(each, against) for each in ways)])


def _line(way: MeasuredWay, against: MeasuredWay) -> str:
    latencies = "".join(f"{way.milliseconds(metric):>8.0f} ms" for metric in ("ttft", "tpot"))
    return f"{way.title:<34}{way.at_once:>8}{way.tokens_per_second:>10.1f}{latencies}{way.ratio(against):>25.2f}"


def last_line(ways: dict[str, MeasuredWay], fetch_of_raw: float, rolling_failed_requests: int) -> dict[str, float]:
    """Returns what the run's last line holds."""
    rates = {f"{key}_tokens_per_second": round(ways[key].tokens_per_second, 1) for key in KEYS}
    return {
        **rates,
        "fetch_of_raw": round(fetch_of_raw, 3),
        "rolling_failed_requests": rolling_failed_requests,
    }
