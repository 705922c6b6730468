"""Autoscaling and the analysis of a Canary read metrics that vLLM's own /metrics has, under these names and labels."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ftm_operator.engines.metrics import LOAD_METRICS, REQUEST_METRICS
from tests.engine.live import BASE, KEY, Server, prepared, wait_for

ANSWERED, STREAMED, REFUSED = 3, 2, 2
START_SECONDS = 550
"""On a machine that is busy with all suites."""
LOAD, NAMES = LOAD_METRICS["vLLM"], REQUEST_METRICS["vLLM"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = prepared(tmp_path_factory.mktemp("engine"))
    made.sizes = {"--max-model-len": 256, "--max-num-seqs": 16}
    made.start()
    try:
        wait_for("the engine's health", made.is_up, START_SECONDS)
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="module")
def metrics(server: Server) -> str:
    """What the engine exports after requests of every kind."""
    asked: dict[str, Any] = {"model": BASE, "prompt": "Hello", "max_tokens": 4, "temperature": 0}
    for number in range(ANSWERED + STREAMED):
        body = {**asked, "stream": number >= ANSWERED}
        assert server.ask("POST", "/v1/completions", body, KEY).status_code == 200
    for wrong in ({"model": "nobody"}, {"max_tokens": -1}):
        assert 400 <= server.ask("POST", "/v1/completions", {**asked, **wrong}, KEY).status_code < 500
    assert server.ask("GET", "/v1/models", None, KEY).status_code == 200
    assert server.ask("POST", "/invocations", asked, KEY).status_code == 404
    return server.ask("GET", "/metrics", None, {}).text


def values(metrics: str, name: str, **labels: str) -> list[float]:
    """Returns the values of the series of this name that have the labels."""
    found = re.findall(rf"^{re.escape(name)}(?:{{(.*)}})? (\S+)$", metrics, re.MULTILINE)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return [float(value) for series, value in found if all(each in series.split(",") for each in wanted)]


@pytest.mark.parametrize("name", [LOAD.running, LOAD.waiting, LOAD.tokens, LOAD.kv_cache_usage])
def test_what_autoscaling_reads_is_there(metrics: str, name: str) -> None:
    assert values(metrics, name)


def test_requests_are_counted_by_method_and_by_class_of_status(metrics: str) -> None:
    assert sum(values(metrics, NAMES.requests, method="POST", status="2xx")) == ANSWERED + STREAMED
    assert sum(values(metrics, NAMES.requests, method="POST", status="4xx")) == REFUSED
    assert sum(values(metrics, NAMES.requests, method="GET")) == 1


def test_what_a_middleware_in_front_answers_is_not_counted(metrics: str) -> None:
    """The guard answered one more POST, with 404."""
    assert sum(values(metrics, NAMES.requests, method="POST")) == ANSWERED + STREAMED + REFUSED


def test_requests_that_the_engine_ended_by_an_error_have_a_series_before_there_is_one(metrics: str) -> None:
    assert values(metrics, NAMES.finished, finished_reason="error") == [0]
    assert sum(values(metrics, NAMES.finished)) == ANSWERED + STREAMED


@pytest.mark.parametrize(("name", "count"), [("first_token_seconds", 5), ("token_seconds", 15)])
def test_times_are_histograms_with_a_sum_and_a_count(metrics: str, name: str, count: int) -> None:
    """Each of five answers has four tokens, of which three come after the first."""
    histogram = getattr(NAMES, name)
    assert sum(values(metrics, f"{histogram}_count")) == count
    assert sum(values(metrics, f"{histogram}_sum")) > 0
