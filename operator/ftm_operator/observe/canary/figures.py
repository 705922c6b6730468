"""Holds what is asked of a Prometheus about two versions, and the figures that it answers with. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

from ftm_operator.observe.canary.queries import (
    ENGINE_ERRORS,
    FIGURE,
    FIRST_TOKEN_SECONDS,
    FIRST_TOKENS,
    REQUESTS,
    STATUS,
    TOKEN_SECONDS,
    TOKENS,
)


@dataclass(frozen=True)
class CanaryQuestion:
    """The figures that a step of a Canary waits for."""

    prometheus: str
    """The address of the Prometheus."""
    old: str
    """The labels of the old version's series, as PromQL has them in braces."""
    new: str
    """Those of the new version's series."""
    since: datetime
    """The time since which requests count."""
    interval_seconds: int
    """Seconds from one look at the figures to the next."""


@dataclass(frozen=True)
class VersionFigures:
    """The requests of one version since the step began."""

    requests: int = 0
    """Requests that were answered in any way."""
    failed: int = 0
    """Those with an answer of 5xx, or those that the engine ended by an error, whichever are more."""
    refused: int = 0
    """Those with an answer of 4xx."""
    first_tokens: int = 0
    """Requests of which the time to the first token is known."""
    first_token_seconds: float | None = None
    """The mean time to the first token."""
    token_seconds: float | None = None
    """The mean time per token after the first."""


@dataclass(frozen=True)
class CanaryFigures:
    """The answer to a question, or the reason for which there is none."""

    question: CanaryQuestion
    old: VersionFigures = VersionFigures()
    new: VersionFigures = VersionFigures()
    trouble: str | None = None
    """A sentence that says why the Prometheus told nothing, and what to mend."""


class NoFigures(Exception):
    """An answer of a Prometheus holds no figures; the text says why."""


def read_figures(answer: object) -> VersionFigures:
    """Returns the figures in the JSON of an answer to `figures_query`. Raises NoFigures."""
    counts: dict[tuple[str, str], float] = {}
    for series in _vector(answer):
        labels, value = series["metric"], float(series["value"][1])
        if isfinite(value):
            counts[labels.get(FIGURE, ""), labels.get(STATUS, "")] = value
    statuses = {status: count for (figure, status), count in counts.items() if figure == REQUESTS}
    failed = max(_with_digit(statuses, "5"), counts.get((ENGINE_ERRORS, ""), 0.0))
    first_tokens = counts.get((FIRST_TOKENS, ""), 0.0)
    return VersionFigures(
        requests=round(sum(statuses.values())),
        failed=round(failed),
        refused=round(_with_digit(statuses, "4")),
        first_tokens=round(first_tokens),
        first_token_seconds=_mean(counts.get((FIRST_TOKEN_SECONDS, "")), first_tokens),
        token_seconds=_mean(counts.get((TOKEN_SECONDS, "")), counts.get((TOKENS, ""), 0.0)),
    )


def _vector(answer: object) -> list[Mapping[str, Any]]:
    try:
        data: Any = answer
        if data["status"] != "success":
            raise NoFigures(f"it answers {data.get('errorType', 'an error')}: {data.get('error', '')}")
        if data["data"]["resultType"] != "vector":
            raise NoFigures(f"it answers with a {data['data']['resultType']} in the place of a vector")
        found: list[Mapping[str, Any]] = data["data"]["result"]
        for series in found:
            float(series["value"][1]), dict(series["metric"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise NoFigures("its answer is no JSON of Prometheus' API") from error
    return found


def _with_digit(statuses: Mapping[str, float], digit: str) -> float:
    return sum(count for status, count in statuses.items() if status.startswith(digit))


def _mean(total: float | None, count: float) -> float | None:
    return total / count if total is not None and count > 0 else None
