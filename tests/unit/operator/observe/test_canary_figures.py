"""A new version is held against the old one by figures that both gave in the same time."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ftm_operator.api.spec.canary import CanaryAnalysis
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.metrics import REQUEST_METRICS
from ftm_operator.observe.canary.figures import (
    CanaryFigures,
    CanaryQuestion,
    NoFigures,
    VersionFigures,
    read_figures,
)
from ftm_operator.observe.canary.judge import judge
from ftm_operator.observe.canary.queries import figures_query
from ftm_operator.observe.canary.question import canary_question, refused_analysis
from tests.unit.operator.objects import resource

SINCE = datetime(2026, 11, 29, 8, tzinfo=UTC)
QUESTION = CanaryQuestion("http://prometheus:9090", 'namespace="a",pod=~"b"', 'namespace="a",pod=~"c"', SINCE, 30)
OLD = VersionFigures(180, first_tokens=180, first_token_seconds=0.1, token_seconds=0.02)
NEW = VersionFigures(20, first_tokens=20, first_token_seconds=0.1, token_seconds=0.02)
VLLM = Plan(engine="vLLM")


def judged(new: VersionFigures = NEW, old: VersionFigures = OLD, **analysis: int) -> tuple[str, str]:
    found = judge(QUESTION, CanaryFigures(QUESTION, old, new), CanaryAnalysis(**analysis))
    return found.outcome, found.message


def test_a_version_that_answers_like_the_old_one_goes_on_and_its_figures_are_told() -> None:
    assert judged() == (
        "GoesOn",
        (
            "0 of 20 requests failed, the old version's 0 of 180; time to the first token 100 ms, the old version's "
            "100 ms; time per token 20 ms, the old version's 20 ms"
        ),
    )


def test_few_requests_are_waited_for_even_if_all_of_them_failed() -> None:
    assert judged(replace(NEW, requests=12, failed=12)) == ("Waits", "12 of 20 requests answered")


def test_where_no_version_has_a_request_the_message_says_what_to_look_at() -> None:
    outcome, message = judged(VersionFigures(), VersionFigures())
    assert (outcome, message) == (
        "Waits",
        (
            '0 of 20 requests answered; http://prometheus:9090 has no requests of {namespace="a",pod=~"c"} nor of the '
            "old version: see that it scrapes the serving Pods and the Canary's, with the labels namespace and pod"
        ),
    )


def test_a_version_whose_answers_fail_fails() -> None:
    assert judged(replace(NEW, failed=4)) == (
        "Fails",
        (
            "4 of 20 requests failed, and 0 of the old version's 180: 20 percent, and canary.analysis.maxErrorPercent "
            "allows 1"
        ),
    )


def test_failures_that_may_be_chance_hold_the_step_and_do_not_end_the_canary() -> None:
    outcome, message = judged(replace(NEW, failed=1))
    assert outcome == "Waits"
    assert message.endswith("allows 1; so few requests may be chance, it waits for more")
    assert judged(replace(NEW, requests=100, failed=1))[0] == "GoesOn"


@pytest.mark.parametrize(
    ("failed", "requests", "outcome"),
    [(0, 20, "GoesOn"), (1, 20, "Waits"), (3, 20, "Waits"), (4, 20, "Fails"), (20, 1000, "Waits"), (30, 1000, "Fails")],
)
def test_the_more_requests_the_smaller_the_share_that_is_certain(failed: int, requests: int, outcome: str) -> None:
    assert judged(replace(NEW, requests=requests, failed=failed))[0] == outcome


def test_what_the_old_version_fails_at_too_is_no_fault_of_the_new_one() -> None:
    assert judged(replace(NEW, failed=4), replace(OLD, failed=36))[0] == "GoesOn"


def test_with_a_limit_of_zero_one_failure_is_enough() -> None:
    assert judged(replace(NEW, failed=1), max_error_percent=0)[0] == "Fails"
    assert judged(max_error_percent=0)[0] == "GoesOn"


def test_where_all_requests_may_fail_none_ends_the_canary() -> None:
    assert judged(replace(NEW, failed=20), max_error_percent=100)[0] == "GoesOn"


def test_answers_of_4xx_count_where_the_old_version_had_enough_requests_to_compare() -> None:
    refusing = replace(NEW, refused=18)
    assert judged(refusing)[0] == "Fails"
    assert "18 of 20 requests were refused with 4xx, and 0 of the old version's 180" in judged(refusing)[1]
    assert judged(refusing, replace(OLD, refused=162))[0] == "GoesOn"
    assert judged(refusing, replace(OLD, requests=19))[0] == "GoesOn"


@pytest.mark.parametrize("field", ["first_token_seconds", "token_seconds"])
@pytest.mark.parametrize(("times", "outcome"), [(1.4, "GoesOn"), (2.0, "Waits"), (4.0, "Fails")])
def test_a_version_may_be_slower_by_the_allowed_share(field: str, times: float, outcome: str) -> None:
    slower: dict[str, Any] = {field: getattr(OLD, field) * times}
    assert judged(replace(NEW, **slower))[0] == outcome


def test_many_requests_make_a_smaller_slowdown_certain() -> None:
    slower = replace(NEW, requests=1000, first_tokens=1000, token_seconds=0.04)
    assert judged(slower, replace(OLD, first_tokens=9000)) == (
        "Fails",
        (
            "time per token is 40 ms, and the old version's 20 ms: 100 percent slower, and "
            "canary.analysis.maxSlowdownPercent allows 50"
        ),
    )


def test_times_are_not_compared_with_a_version_that_got_no_requests() -> None:
    assert judged(replace(NEW, token_seconds=9.0), VersionFigures())[0] == "GoesOn"
    assert judged(replace(NEW, failed=20), VersionFigures())[0] == "Fails"


def test_what_a_prometheus_does_not_tell_holds_the_step() -> None:
    silent = CanaryFigures(QUESTION, trouble="http://prometheus:9090 does not answer")
    assert judge(QUESTION, silent, CanaryAnalysis()).outcome == "Waits"
    assert judge(QUESTION, silent, CanaryAnalysis()).message == "http://prometheus:9090 does not answer"


def test_figures_of_an_earlier_step_are_not_taken_for_those_of_this_one() -> None:
    later = replace(QUESTION, since=SINCE.replace(hour=9))
    for figures in (None, CanaryFigures(QUESTION, OLD, replace(NEW, failed=20))):
        found = judge(later, figures, CanaryAnalysis())
        assert (found.outcome, found.message) == ("Waits", "its figures are asked of http://prometheus:9090")


def test_each_counter_is_grown_since_the_step_began_with_series_that_are_new() -> None:
    query = figures_query(REQUEST_METRICS["vLLM"], 'namespace="a",pod=~"b"', 90)
    posts = 'http_requests_total{namespace="a",pod=~"b",method="POST"}'
    assert query.startswith(
        f"label_replace(sum by (status) ((increase({posts}[90s]) and {posts} offset 90s) or "
        f'(last_over_time({posts}[90s]) unless {posts} offset 90s)), "figure", "requests", "", "") or '
    )
    for name in (
        'vllm:request_success_total{namespace="a",pod=~"b",finished_reason="error"}',
        "vllm:time_to_first_token_seconds_sum{",
        "vllm:time_to_first_token_seconds_count{",
        "vllm:inter_token_latency_seconds_sum{",
        "vllm:inter_token_latency_seconds_count{",
    ):
        assert name in query


def answer(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": metric, "value": [1796000000.0, value]} for metric, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_figures_are_read_from_an_answer() -> None:
    found = read_figures(
        answer(
            ({"figure": "requests", "status": "2xx"}, "16.2"),
            ({"figure": "requests", "status": "4xx"}, "1"),
            ({"figure": "requests", "status": "5xx"}, "2.9"),
            ({"figure": "engine_errors"}, "2"),
            ({"figure": "first_tokens"}, "16"),
            ({"figure": "first_token_seconds"}, "1.6"),
            ({"figure": "tokens"}, "0"),
            ({"figure": "token_seconds"}, "NaN"),
        )
    )
    assert found == VersionFigures(20, 3, 1, 16, 0.1, None)
    assert read_figures(answer()) == VersionFigures()


def test_streams_that_the_engine_ended_by_an_error_failed_though_they_began_with_200() -> None:
    found = read_figures(answer(({"figure": "requests", "status": "2xx"}, "9"), ({"figure": "engine_errors"}, "4")))
    assert (found.requests, found.failed) == (9, 4)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"status": "error", "errorType": "bad_data", "error": "unknown function"},
            "it answers bad_data: unknown function",
        ),
        (
            {"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}},
            "it answers with a scalar in the place of a vector",
        ),
        ({"status": "success"}, "its answer is no JSON of Prometheus' API"),
        (["no", "object"], "its answer is no JSON of Prometheus' API"),
        (
            {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [0, "x"]}]}},
            "its answer is no JSON of Prometheus' API",
        ),
    ],
)
def test_an_answer_without_figures_is_named(said: object, sentence: str) -> None:
    with pytest.raises(NoFigures, match=sentence):
        read_figures(said)


def test_the_pods_of_a_canary_are_not_the_old_version_s() -> None:
    model = FineTunedModel.model_validate(resource("bot", serving={"canary": {"analysis": {"intervalSeconds": 60}}}))
    found = canary_question(model, (VLLM, VLLM), "bot-canary", "http://prometheus:9090/", SINCE)
    assert found == CanaryQuestion(
        "http://prometheus:9090",
        'namespace="team-a",pod=~"bot-[a-z0-9]+-[a-z0-9]{5}"',
        'namespace="team-a",pod=~"bot-canary-[a-z0-9]+-[a-z0-9]{5}"',
        SINCE,
        60,
    )


def test_analysis_is_refused_where_nothing_counts_requests() -> None:
    assert refused_analysis((VLLM, VLLM), "http://prometheus:9090") is None
    assert refused_analysis((VLLM, VLLM), None) == (
        "canary.analysis reads the engines' metrics from a Prometheus, and none is named: set "
        "spec.serving.canary.analysis.prometheus, or the chart's autoscaling.prometheus"
    )
    assert refused_analysis((VLLM, Plan(engine="LlamaCpp")), "http://prometheus:9090") == (
        "canary.analysis counts requests, and LlamaCpp, which serves the new version, counts none in its metrics: "
        "remove spec.serving.canary.analysis, so that Pods and served verification judge it"
    )
