"""Holds the figures of a new version against those of the old one. Pure.

A figure that is beyond its limit holds the step. It ends the Canary only where it is hardly chance, at one in CHANCE:

- shares: were the true share the limit p, a share of q or more of n requests would come up with a probability of at
  most exp(-n KL(q, p)), where KL(q, p) = q ln(q/p) + (1-q) ln((1-q)/(1-p)) (Chernoff).
- times: a time varies by about its mean from request to request, so the logarithm of the ratio of two means of n and m
  requests varies by sqrt(1/n + 1/m).

Example: 1 percent may fail, and 4 of 20 requests did: n KL is 8.6, above ln 1000 = 6.9, so the version fails. With 3 of
20 it is 5.5, and the step waits for more requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, sqrt
from statistics import NormalDist
from typing import Literal

from ftm_operator.api.spec.canary import CanaryAnalysis
from ftm_operator.observe.canary.figures import CanaryFigures, CanaryQuestion, VersionFigures

CHANCE = 1000
"""The looks of which one would mistake chance for a fault, were the version right at its limit."""
_DEVIATIONS = NormalDist().inv_cdf(1 - 1 / CHANCE)


@dataclass(frozen=True)
class Judgement:
    """Tells whether a step of a Canary may end, and why."""

    outcome: Literal["Waits", "GoesOn", "Fails"]
    message: str


@dataclass(frozen=True)
class _Finding:
    """A figure that is beyond its limit."""

    message: str
    sure: bool
    """It is hardly chance."""


def judge(question: CanaryQuestion, figures: CanaryFigures | None, analysis: CanaryAnalysis) -> Judgement:
    """Returns what the figures say. Those of another question, or none, are waited for."""
    if figures is None or figures.question != question:
        return Judgement("Waits", f"its figures are asked of {question.prometheus}")
    if figures.trouble:
        return Judgement("Waits", figures.trouble)
    old, new = figures.old, figures.new
    answered = f"{new.requests} of {analysis.min_requests} requests answered"
    if new.requests < analysis.min_requests:
        hint = "" if new.requests or old.requests else f"; {_nothing_is_read(question)}"
        return Judgement("Waits", f"{answered}{hint}")
    findings = [found for check in CHECKS if (found := check(old, new, analysis))]
    if sure := [found.message for found in findings if found.sure]:
        return Judgement("Fails", "; ".join(sure))
    if findings:
        unsure = "; ".join(found.message for found in findings)
        return Judgement("Waits", f"{unsure}; so few requests may be chance, it waits for more")
    return Judgement("GoesOn", summary(old, new))


def failures(old: VersionFigures, new: VersionFigures, analysis: CanaryAnalysis) -> _Finding | None:
    """Server errors, beyond the old version's share."""
    share = old.failed / old.requests if old.requests else 0.0
    said = f"{new.failed} of {new.requests} requests failed, and {old.failed} of the old version's {old.requests}"
    return _beyond_share(new.failed, new.requests, share, analysis, said)


def refusals(old: VersionFigures, new: VersionFigures, analysis: CanaryAnalysis) -> _Finding | None:
    """Answers of 4xx, which callers may have earned: they are held against as many requests to the old version."""
    if old.requests < analysis.min_requests:
        return None
    said = (
        f"{new.refused} of {new.requests} requests were refused with 4xx, and {old.refused} of the old version's "
        f"{old.requests}"
    )
    return _beyond_share(new.refused, new.requests, old.refused / old.requests, analysis, said)


def first_token(old: VersionFigures, new: VersionFigures, analysis: CanaryAnalysis) -> _Finding | None:
    """The mean time to the first token."""
    return _slower("time to the first token", old.first_token_seconds, new.first_token_seconds, (old, new), analysis)


def each_token(old: VersionFigures, new: VersionFigures, analysis: CanaryAnalysis) -> _Finding | None:
    """The mean time per token after the first."""
    return _slower("time per token", old.token_seconds, new.token_seconds, (old, new), analysis)


CHECKS: tuple[Callable[[VersionFigures, VersionFigures, CanaryAnalysis], _Finding | None], ...] = (
    failures,
    refusals,
    first_token,
    each_token,
)


def summary(old: VersionFigures, new: VersionFigures) -> str:
    """Returns the figures of both versions in a sentence."""
    times = [
        f"{name} {after * 1000:.0f} ms, the old version's {before * 1000:.0f} ms"
        for name, before, after in (
            ("time to the first token", old.first_token_seconds, new.first_token_seconds),
            ("time per token", old.token_seconds, new.token_seconds),
        )
        if before is not None and after is not None
    ]
    failed = f"{new.failed} of {new.requests} requests failed, the old version's {old.failed} of {old.requests}"
    return "; ".join([failed, *times])


def _beyond_share(count: int, requests: int, old_share: float, analysis: CanaryAnalysis, said: str) -> _Finding | None:
    limit, share = old_share + analysis.max_error_percent / 100, count / requests
    if share <= limit:
        return None
    return _Finding(
        f"{said}: {_percent(share)} percent, and canary.analysis.maxErrorPercent allows {_percent(limit)}",
        sure=requests * _divergence(share, limit) > log(CHANCE),
    )


def _slower(
    name: str,
    before: float | None,
    after: float | None,
    versions: tuple[VersionFigures, VersionFigures],
    analysis: CanaryAnalysis,
) -> _Finding | None:
    old, new = versions
    if not before or after is None or not old.first_tokens or not new.first_tokens:
        return None
    excess = after / before / (1 + analysis.max_slowdown_percent / 100)
    if excess <= 1:
        return None
    said = f"{name} is {after * 1000:.0f} ms, and the old version's {before * 1000:.0f} ms"
    return _Finding(
        f"{said}: {_percent(after / before - 1)} percent slower, and canary.analysis.maxSlowdownPercent allows "
        f"{analysis.max_slowdown_percent}",
        sure=log(excess) > _DEVIATIONS * sqrt(1 / old.first_tokens + 1 / new.first_tokens),
    )


def _divergence(share: float, limit: float) -> float:
    """Returns KL(share, limit) for a share above the limit."""
    if limit <= 0:
        return inf
    rest = (1 - share) * log((1 - share) / (1 - limit)) if share < 1 else 0.0
    return share * log(share / limit) + rest


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _nothing_is_read(question: CanaryQuestion) -> str:
    return (
        f"{question.prometheus} has no requests of {{{question.new}}} nor of the old version: see that it scrapes the "
        "serving Pods and the Canary's, with the labels namespace and pod"
    )
