"""Asks a Prometheus for the figures of a Canary, for the passes that ask for them.

Guarantees
- a question is asked once in its interval, as long as passes go on asking for it;
- both versions are asked about the same seconds;
- what is not answered holds no pass longer than ANSWER_SECONDS and fails none: the figures say what the trouble is.

Its HTTP API is one GET with JSON; aiohttp is there already for Kubernetes.
"""

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from json import JSONDecodeError

import aiohttp

from ftm_operator.api.texts import one_line
from ftm_operator.engines.metrics import REQUEST_METRICS
from ftm_operator.engines.vllm import ENGINE
from ftm_operator.observe.canary.figures import (
    CanaryFigures,
    CanaryQuestion,
    NoFigures,
    VersionFigures,
    read_figures,
)
from ftm_operator.observe.canary.queries import figures_query
from ftm_operator.runtime.view.object_cache import Key

ANSWER_SECONDS = 5.0
QUERY_PATH = "/api/v1/query"


@dataclass
class _AskedFigures:
    question: CanaryQuestion
    read_again: float = 0.0
    """The earliest time of the next look, by the event loop's clock."""
    figures: CanaryFigures | None = None


class PrometheusFigures:
    """The question of each model whose Canary waits for figures."""

    def __init__(self) -> None:
        self._asked: dict[Key, _AskedFigures] = {}

    def ask(self, key: Key, question: CanaryQuestion | None) -> float | None:
        """Notes what a pass asks. Returns the seconds until it is to be asked of the Prometheus; None if it is not."""
        if question is None:
            self._asked.pop(key, None)
            return None
        asked = self._asked.get(key)
        if asked is None or asked.question != question:
            asked = self._asked[key] = _AskedFigures(question)
        return max(0.0, asked.read_again - asyncio.get_running_loop().time())

    async def read(self, key: Key) -> None:
        """Asks what the last pass asked, if it is due."""
        asked, now = self._asked.get(key), asyncio.get_running_loop().time()
        if asked is None or now < asked.read_again:
            return
        asked.read_again = now + asked.question.interval_seconds
        asked.figures = await _figures(asked.question)

    def of(self, key: Key) -> CanaryFigures | None:
        """Returns the figures of the model's last question, once they are there."""
        asked = self._asked.get(key)
        return asked.figures if asked else None


async def _figures(question: CanaryQuestion) -> CanaryFigures:
    now = datetime.now(UTC)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
            versions = (question.old, question.new)
            old, new = await asyncio.gather(*(_ask(session, question, each, now) for each in versions))
    except NoFigures as refusal:
        return CanaryFigures(question, trouble=_trouble(question, str(refusal)))
    except (aiohttp.ClientError, TimeoutError) as error:
        why = f"it does not answer within {ANSWER_SECONDS:.0f} s" if isinstance(error, TimeoutError) else str(error)
        return CanaryFigures(question, trouble=_trouble(question, why))
    return CanaryFigures(question, old, new)


async def _ask(session: aiohttp.ClientSession, question: CanaryQuestion, series: str, now: datetime) -> VersionFigures:
    """Raises NoFigures, ClientError, or TimeoutError."""
    seconds = max(1, math.ceil((now - question.since).total_seconds()))
    query = {"query": figures_query(REQUEST_METRICS[ENGINE], series, seconds), "time": f"{now.timestamp():.6f}"}
    async with session.get(question.prometheus + QUERY_PATH, params=query) as response:
        try:
            answer = await response.json(content_type=None)
        except (JSONDecodeError, UnicodeDecodeError):
            raise NoFigures(f"it answers {response.status} {response.reason} to GET {QUERY_PATH}") from None
    return read_figures(answer)


def _trouble(question: CanaryQuestion, why: str) -> str:
    return (
        f"the Prometheus at {question.prometheus} tells no figures: {one_line(why)}; mend it, or correct "
        "spec.serving.canary.analysis.prometheus or the chart's autoscaling.prometheus"
    )
