"""A Prometheus is asked once in an interval, and its silence is told in a sentence.

The server here stands in for a Prometheus: it answers as tests say and keeps what it was asked.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from ftm_operator.observe.canary.figures import CanaryQuestion, VersionFigures
from ftm_operator.runtime import prometheus
from ftm_operator.runtime.prometheus import PrometheusFigures

KEY = ("team-a", "support-bot")
MEND = "mend it, or correct spec.serving.canary.analysis.prometheus or the chart's autoscaling.prometheus"


@dataclass
class Server:
    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    """By the labels of the series that are asked about."""
    text: str | None = None
    delay: float = 0.0
    queries: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """The moments that were asked about."""

    async def answer(self, request: web.Request) -> web.Response:
        query = request.query["query"]
        self.queries.append(query)
        self.times.append(float(request.query["time"]))
        await asyncio.sleep(self.delay)
        if self.text is not None:
            return web.Response(status=503, text=self.text)
        (found,) = [count for series, count in self.answers.items() if f"{{{series}," in query]
        series = {"metric": {"figure": "requests", "status": "2xx"}, "value": [0, str(found)]}
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": [series]}})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(answers={'pod=~"old"': 180, 'pod=~"new"': 20})
    application = web.Application()
    application.router.add_get("/prom/api/v1/query", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/prom"
    yield made
    await runner.cleanup()


def question(url: str, interval_seconds: int = 30, ago: int = 90) -> CanaryQuestion:
    since = datetime.now(UTC) - timedelta(seconds=ago)
    return CanaryQuestion(url, 'pod=~"old"', 'pod=~"new"', since, interval_seconds)


async def test_both_versions_are_asked_about_the_same_seconds(server: Server) -> None:
    figures, asked = PrometheusFigures(), question(server.url)
    assert figures.ask(KEY, asked) == 0
    assert figures.of(KEY) is None
    await figures.read(KEY)
    found = figures.of(KEY)
    assert found is not None
    assert (found.question, found.trouble) == (asked, None)
    assert (found.old, found.new) == (VersionFigures(180), VersionFigures(20))
    windows = {query.split("[")[1].split("]")[0] for query in server.queries}
    [window], [moment] = windows, set(server.times)
    assert len(server.queries) == 2
    assert int(window.removesuffix("s")) - 1 < moment - asked.since.timestamp() <= int(window.removesuffix("s"))


async def test_it_is_asked_once_in_an_interval_and_again_for_another_question(server: Server) -> None:
    figures, asked = PrometheusFigures(), question(server.url)
    figures.ask(KEY, asked)
    for _ in range(5):
        await figures.read(KEY)
        assert 0 < (figures.ask(KEY, asked) or 0) <= 30
    assert len(server.queries) == 2
    figures.ask(KEY, question(server.url, ago=5))
    assert figures.of(KEY) is None
    await figures.read(KEY)
    assert len(server.queries) == 4


async def test_after_the_interval_it_is_asked_again(server: Server) -> None:
    figures, asked = PrometheusFigures(), question(server.url, interval_seconds=0)
    figures.ask(KEY, asked)
    await figures.read(KEY)
    server.answers['pod=~"new"'] = 21
    await figures.read(KEY)
    found = figures.of(KEY)
    assert found is not None
    assert found.new.requests == 21


async def test_what_no_pass_asks_is_not_asked(server: Server) -> None:
    figures = PrometheusFigures()
    await figures.read(KEY)
    figures.ask(KEY, question(server.url))
    assert figures.ask(KEY, None) is None
    await figures.read(KEY)
    assert server.queries == []


async def trouble(url: str) -> str:
    figures = PrometheusFigures()
    figures.ask(KEY, question(url))
    await figures.read(KEY)
    found = figures.of(KEY)
    assert found is not None
    return found.trouble or ""


async def test_a_server_that_is_no_prometheus_is_named(server: Server) -> None:
    server.text = "<html>nobody here"
    assert await trouble(server.url) == (
        f"the Prometheus at {server.url} tells no figures: it answers 503 Service Unavailable to GET /api/v1/query; "
        f"{MEND}"
    )


async def test_a_prometheus_that_refuses_a_query_is_quoted(server: Server) -> None:
    server.text = '{"status":"error","errorType":"timeout","error":"query timed out"}'
    assert "tells no figures: it answers timeout: query timed out; mend it" in await trouble(server.url)


async def test_where_nothing_listens_the_address_is_named() -> None:
    said = await trouble("http://127.0.0.1:1")
    assert said.startswith("the Prometheus at http://127.0.0.1:1 tells no figures: Cannot connect to host 127.0.0.1:1")
    assert said.endswith(MEND)


async def test_a_server_that_hangs_holds_a_pass_for_a_few_seconds_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "ANSWER_SECONDS", 0.2)
    server.delay = 5
    assert "tells no figures: it does not answer within 0 s; mend it" in await trouble(server.url)
