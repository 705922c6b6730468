"""Figures are those of `vllm bench serve`, to the formula; tests/engine holds them to its own code."""

import random

import numpy
import pytest

from ftm_operator.benchmark.figures import PERCENTILES, Figures, RequestTimes, distribution, figures_json, per_second
from tests.unit.operator.benchmark.requests import FIGURES, answered


@pytest.mark.parametrize("number", [1, 2, 3, 10, 101, 250])
def test_mean_deviation_and_percentiles_are_numpys(number: int) -> None:
    chooser = random.Random(number)
    values = [chooser.expovariate(1) for _ in range(number)]
    found = distribution(values)
    assert found.mean == pytest.approx(numpy.mean(values))
    assert found.median == pytest.approx(numpy.median(values))
    assert found.std == pytest.approx(numpy.std(values))
    for share in PERCENTILES:
        assert found.percentiles[share] == pytest.approx(numpy.percentile(values, share))


def test_the_time_per_output_token_leaves_out_the_first_token_and_answers_of_one_token() -> None:
    assert answered(0, 0.1, 0.2, 0.5).tpot == pytest.approx(0.2)
    assert answered(0, 0.1, 0.2, 0.5, tokens=5).tpot == pytest.approx(0.1), "tokens are counted, not chunks"
    assert answered(0, 0.3, tokens=1).tpot is None
    assert FIGURES.values("tpot") == pytest.approx([0.2])


def test_what_failed_counts_in_no_time_and_no_throughput() -> None:
    found = figures_json(FIGURES, detailed=False)
    assert (found["completed"], found["failed"], found["errors_by_kind"]) == (2, 1, {"Status500": 1})
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (20, 4)
    assert (found["request_throughput"], found["output_throughput"], found["total_token_throughput"]) == (0.5, 1.0, 6.0)
    assert found["mean_ttft_ms"] == pytest.approx(200)
    assert found["mean_itl_ms"] == pytest.approx(200)
    assert found["mean_e2el_ms"] == pytest.approx(400)


def test_without_any_answer_all_figures_are_0() -> None:
    found = figures_json(Figures(1.0, ()), detailed=True)
    assert found["completed"] == found["p99_ttft_ms"] == found["max_concurrent_requests"] == 0


def test_each_second_has_the_chunks_that_came_and_the_requests_in_flight() -> None:
    requests = (answered(10.0, 0.5, 1.5, 2.5), answered(11.2, 0.1))
    assert per_second(Figures(3.0, requests)) == ([1, 2, 1, 0], [1, 2, 1, 0])


def test_details_have_one_entry_for_each_request() -> None:
    found = figures_json(FIGURES, detailed=True)
    assert found["errors"] == ["", "", "out of memory"]
    assert found["output_lens"] == [3, 1, 0]
    assert found["itls"][1:] == [[], []]
    assert RequestTimes("bot", 0.0).e2el == 0
