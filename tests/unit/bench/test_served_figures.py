"""Rounds become medians, and ratios are taken within a round; starts and rollouts are told in a line."""

import json
from pathlib import Path

from ftm_operator.benchmark.figures import Figures
from ftm_operator.planning.feedback.start_parts import StartParts
from tests.bench.served.figures import MeasuredWay, format_ways, last_line
from tests.bench.served.rollout import rolled_out
from tests.bench.served.starts import MeasuredStart, drop_pages
from tests.unit.operator.benchmark.requests import answered, failed

DRAINED = {"inFlightAtFirst": 4, "inFlight": 0, "seconds": 15.2}


def way(title: str, *durations: float) -> MeasuredWay:
    """Each round has one answer of three tokens, and its duration."""
    request = answered(0.0, 0.1, 0.2, 0.3)
    return MeasuredWay(title, 8, tuple(Figures(each, (request,)) for each in durations))


def test_a_ratio_is_taken_within_each_round() -> None:
    noisy_at_the_end = way("merged", 1.0, 1.0, 10.0), way("plain", 2.0, 2.0, 20.0)
    assert noisy_at_the_end[0].ratio(noisy_at_the_end[1]) == 2.0
    noisy_at_once = way("merged", 1.0, 10.0, 10.0), way("plain", 2.0, 20.0, 2.0)
    assert noisy_at_once[0].ratio(noisy_at_once[1]) == 2.0
    assert noisy_at_once[0].tokens_per_second == 0.3


def test_the_table_has_a_line_for_each_way() -> None:
    merged, plain = way("merged, vLLM", 1.0), way("plain", 3.0)
    assert format_ways([merged, plain], plain).splitlines() == [
        "                                   at once  tokens/s   TTFT p50   TPOT p50                 by plain",
        "merged, vLLM                             8       3.0     100 ms     100 ms                     3.00",
        "plain                                    8       1.0     100 ms     100 ms                     1.00",
    ]


def test_the_last_line_has_these_keys_alone() -> None:
    ways = {key: way(key, 2.0) for key in ("gguf", "hf", "dynamic", "merged")}
    assert json.dumps(last_line(ways, 0.98765, 0)) == (
        '{"merged_tokens_per_second": 1.5, "dynamic_tokens_per_second": 1.5, "hf_tokens_per_second": 1.5, '
        '"gguf_tokens_per_second": 1.5, "fetch_of_raw": 0.988, "rolling_failed_requests": 0}'
    )


def test_a_start_is_told_as_explain_does() -> None:
    parts = StartParts(load_seconds=2, compile_seconds=30, warm_up_seconds=9)
    assert MeasuredStart("vLLM, cold", 60.4, parts, 3.2, 0).words == (
        "vLLM, cold: started in 64 s: fetch 3, load 2, compile 30, warm-up 9, the rest 20 "
        "(0 bytes of the weights were in memory)"
    )
    assert MeasuredStart("llama-server, warm", 1.2, None).words == "llama-server, warm: started in 1 s"


def test_files_leave_the_page_cache_by_their_links(tmp_path: Path) -> None:
    kept, pod = tmp_path / "kept", tmp_path / "pod"
    pod.mkdir()
    kept.write_bytes(bytes(1 << 20))
    (pod / "weights").symlink_to(kept)
    assert drop_pages(pod) == 0


def test_a_rollout_counts_what_failed_and_what_came_afterwards() -> None:
    ended = [answered(0.0, 1.0), failed(5.0, "Disconnected", "gone"), answered(9.0, 0.5), answered(11.0, 0.5)]
    found = rolled_out(ended, DRAINED, 10.0, 0)
    assert (found.requests, found.failed, found.answered_afterwards) == (4, {"Disconnected": 1}, 1)
    assert found.words == (
        "rollout: 4 requests, 1 Disconnected failed; 4 in flight when the drain began, 0 when it ended after 15.2 s; "
        "1 answered afterwards; the old engine ended with exit code 0"
    )
    assert ": 1 requests, 0 failed;" in rolled_out(ended[:1], DRAINED, 10.0, 0).words
