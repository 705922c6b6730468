"""A real Prometheus answers what is asked of it about two versions, with the requests since a step began.

The engines are stand-ins: they export what vLLM does, under the names that tests/engine/test_metrics.py finds there,
with counts that the test sets.
"""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from ftm_operator.engines.metrics import REQUEST_METRICS
from ftm_operator.observe.canary.figures import CanaryFigures, CanaryQuestion
from ftm_operator.runtime.prometheus import PrometheusFigures
from tests.cluster.kubelet import eventually
from tests.cluster.unavailable import Unavailable
from tests.servers.prometheus import prometheus

NAMES = REQUEST_METRICS["vLLM"]
OLD, NEW = "bot-6d4f5c9b8-x2x7q", "bot-canary-7f9c6d5b4-k8z2p"
MODEL = "bot"
PATIENCE_SECONDS = 300
SCRAPES_SECONDS = 5
"""In which a Prometheus that reads each second has read more than once, on a busy machine too."""
SETTLED_SECONDS = 10


@dataclass
class Pod:
    """Counters of an engine."""

    posts: dict[str, int] = field(default_factory=dict)
    """By class of status."""
    first_token: float = 0.0
    """Seconds to the first token of each answer."""

    def exposition(self) -> str:
        answered = self.posts.get("2xx", 0)
        lines = [
            f'{NAMES.requests}{{handler="/v1/completions",method="POST",status="{status}"}} {count}'
            for status, count in self.posts.items()
        ]
        lines += [f'{NAMES.requests}{{handler="/v1/models",method="GET",status="2xx"}} 500']
        lines += [f'{NAMES.finished}{{model_name="bot",finished_reason="error"}} 0']
        for name, seconds in ((NAMES.first_token_seconds, self.first_token), (NAMES.token_seconds, 0.02)):
            lines += [f'{name}_sum{{model_name="bot"}} {seconds * answered}']
            lines += [f'{name}_count{{model_name="bot"}} {answered}']
        return "\n".join([*lines, ""])


@dataclass
class Monitored:
    """Two pods, and the Prometheus that reads them each second."""

    url: str
    pods: dict[str, Pod]

    def has(self, pod: str, status: str, count: int) -> None:
        """Sets a counter and waits until the Prometheus has read it."""
        self.pods[pod].posts[status] = count
        query = f'{NAMES.requests}{{pod="{pod}",method="POST",status="{status}"}}'
        eventually(f"{pod} with {count} {status}", lambda: self._value(query) == count, PATIENCE_SECONDS)

    def beginning(self) -> datetime:
        """Returns a moment that has reads before it and one after it: `increase` sees what is between two reads."""
        time.sleep(SCRAPES_SECONDS)
        began = datetime.now(UTC)
        time.sleep(SCRAPES_SECONDS)
        return began

    def _value(self, query: str) -> float:
        response = httpx2.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=10, trust_env=False)
        found = response.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else math.nan

    def figures(self, since: datetime) -> CanaryFigures:
        series = 'namespace="team-a",pod=~"{}-[a-z0-9]+-[a-z0-9]{{5}}"'.format
        question = CanaryQuestion(self.url, series(MODEL), series(f"{MODEL}-canary"), since, 30)

        async def asked() -> CanaryFigures | None:
            figures = PrometheusFigures()
            figures.ask(("team-a", MODEL), question)
            await figures.read(("team-a", MODEL))
            return figures.of(("team-a", MODEL))

        found = asyncio.run(asked())
        assert found is not None
        assert found.trouble is None
        return found


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[Monitored]:
    pods = {OLD: Pod({"2xx": 1000}, 0.1), NEW: Pod({}, 0.3)}

    class Exporter(BaseHTTPRequestHandler):
        """Serves /POD as that pod's /metrics."""

        def do_GET(self) -> None:
            body = pods[self.path.strip("/")].exposition().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Exporter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = f"127.0.0.1:{server.server_port}"
        jobs = [
            {
                "job_name": pod,
                "metrics_path": f"/{pod}",
                "static_configs": [{"targets": [target], "labels": {"namespace": "team-a", "pod": pod}}],
            }
            for pod in pods
        ]
        with ExitStack() as ends:
            try:
                url = ends.enter_context(prometheus(tmp_path, jobs))
            except Unavailable as reason:
                pytest.skip(str(reason))
            made = Monitored(url, pods)
            made.has(OLD, "2xx", 1000)
            yield made
        server.shutdown()


def test_requests_count_since_the_step_began_and_those_of_new_series_do_too(monitored: Monitored) -> None:
    """`increase` alone would not see the first failures of either version, nor a canary's first requests.

    Of a series that was there before, `increase` guesses what came beyond its first and last read: 50 may be
    told as 55.
    """
    since = monitored.beginning()
    monitored.has(OLD, "2xx", 1050)
    monitored.has(OLD, "5xx", 2)
    monitored.has(NEW, "2xx", 20)
    monitored.has(NEW, "5xx", 3)
    monitored.has(NEW, "4xx", 1)
    time.sleep(SETTLED_SECONDS)
    found = monitored.figures(since)
    assert (found.new.requests, found.new.failed, found.new.refused) == (24, 3, 1)
    assert (found.old.failed, found.old.refused) == (2, 0)
    assert 52 <= found.old.requests <= 57
    assert found.old.first_token_seconds == pytest.approx(0.1, rel=0.01)
    assert found.new.token_seconds == pytest.approx(0.02, rel=0.01)


def test_an_engine_that_started_again_is_counted_on(monitored: Monitored) -> None:
    since = monitored.beginning()
    monitored.has(OLD, "2xx", 1010)
    monitored.has(OLD, "2xx", 7)
    time.sleep(SETTLED_SECONDS)
    assert 17 <= monitored.figures(since).old.requests <= 19
