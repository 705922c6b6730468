"""A benchmark is shown whole: as a table, as JSON, as a page, and two of them side by side."""

from ftm_operator.benchmark.figures import Figures
from ftm_operator.benchmark.page import render_benchmark
from ftm_operator.benchmark.plots import shares_plot
from ftm_operator.benchmark.results import comparison_json, format_comparison, format_result
from tests.unit.operator.benchmark.requests import FIGURES, answered, result

TWICE_AS_SLOW = Figures(8.0, (answered(0.0, 0.2, 0.4, 1.0), answered(0.5, 0.6, tokens=1)))


def test_a_result_is_a_table() -> None:
    assert (
        format_result(result())
        == """\
http://a, model bot: 3 requests, 1.5 a second, 2 at once at most, in 4.0 s
  requests per second                  0.50
  output tokens per second              1.0
  input tokens                           20
  output tokens                           4
  milliseconds                         mean       std       p50       p90       p99
  time to first token      TTFT       200.0     100.0     200.0     280.0     298.0
  time per output token    TPOT       200.0       0.0     200.0     200.0     200.0
  inter-token latency      ITL        200.0     100.0     200.0     280.0     298.0
  end-to-end latency       E2EL       400.0     100.0     400.0     480.0     498.0
1 of 3 requests failed; their tokens and times are not counted
      1 Status500: out of memory"""
    )


def test_two_results_end_with_the_firsts_figures_by_the_seconds() -> None:
    told = format_comparison(result(), result("http://b", TWICE_AS_SLOW))
    assert told.endswith(
        """\
A is http://a, model bot, B is http://b, model bot
                                          A         B     A / B
  requests per second                   0.5       0.2      2.00
  output tokens per second              1.0       0.5      2.00
  median TTFT, ms                     200.0     400.0      0.50
  median TPOT, ms                     200.0     400.0      0.50
  median ITL, ms                      200.0     400.0      0.50
  median E2EL, ms                     400.0     800.0      0.50"""
    )
    found = comparison_json(result(), result("http://b", TWICE_AS_SLOW), detailed=False)
    assert found["ratios"]["output_throughput"] == 2
    assert [each["label"] for each in found["results"]] == ["http://a", "http://b"]


def test_json_says_what_was_asked_for() -> None:
    found = result().to_json(detailed=False)
    asked = {"date": "20260102-030405", "backend": "openai-chat", "model_id": "bot", "num_prompts": 3}
    assert found.items() >= {**asked, "request_rate": 1.5, "max_concurrency": 2}.items()


def test_the_page_has_a_plot_of_each_metric_and_runs_no_text_of_an_endpoint() -> None:
    page = render_benchmark([result("<script>alert(1)</script>"), result("http://b", TWICE_AS_SLOW)])
    assert "<script" not in page
    assert page.count("<svg") == 6
    assert page.count("<polyline") == 12
    assert "1 of 3 requests failed: Status500" in page


def test_a_page_without_any_answer_is_drawn_too() -> None:
    assert render_benchmark([result(figures=Figures(1.0, FIGURES.requests[2:]))]).count("<svg") == 6


def test_shares_grow_from_the_fastest_to_all() -> None:
    many = Figures(1.0, tuple(answered(0, 0.001 * (n + 1)) for n in range(1000)))
    plot = shares_plot("TTFT", "ttft", {"A": many})
    points = [tuple(map(float, point.split(","))) for point in plot.lines[0].points.split()]
    assert len(points) == 400
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    assert points[-1] == (plot.right, plot.top)
