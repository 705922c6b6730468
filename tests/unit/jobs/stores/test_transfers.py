"""Bounded retries, part sizes and progress: small promises of the transfers."""

import io

import pytest

from ftm_jobs.contract.byte_counts import MIB, format_bytes
from ftm_jobs.runtime.progress import Progress, describe, duration
from ftm_jobs.stores.retry import LONGEST_DELAY_SECONDS, LONGEST_WAIT_SECONDS, TransientError, retry
from ftm_jobs.stores.s3_upload import LARGEST_PART_COUNT, SMALLEST_PART_BYTES, part_bytes


def test_what_passes_is_tried_again_and_what_stays_is_raised_after_the_last_attempt() -> None:
    failures = ["reset", "reset"]

    def answer() -> int:
        if failures:
            raise TransientError(failures.pop())
        return 7

    delays: list[float] = []
    assert retry(answer, "s3://models/a", sleep=delays.append) == 7
    assert len(delays) == 2

    def never() -> int:
        raise TransientError("503")

    with pytest.raises(TransientError, match="503"):
        retry(never, "s3://models/a", attempts=9, sleep=delays.append)
    assert len(delays) == 2 + 8
    assert max(delays) <= LONGEST_DELAY_SECONDS


def test_the_wait_that_a_server_asks_for_is_added_within_reason() -> None:
    delays, asked = list[float](), [30.0, 9000.0]

    def answer() -> int:
        if asked:
            raise TransientError("slow down", asked.pop(0))
        return 7

    assert retry(answer, "hf://org/name", sleep=delays.append) == 7
    assert 30 <= delays[0] <= 30 + LONGEST_DELAY_SECONDS
    assert LONGEST_WAIT_SECONDS <= delays[1] <= LONGEST_WAIT_SECONDS + LONGEST_DELAY_SECONDS


def test_another_error_is_not_tried_again() -> None:
    calls: list[int] = []

    def wrong() -> None:
        calls.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        retry(wrong, "s3://models/a", sleep=lambda _: None)
    assert calls == [1]


@pytest.mark.parametrize("total", [0, 1, 16 * MIB, 160_000 * MIB, 160_001 * MIB, 5 * 10**12])
def test_any_object_fits_into_the_parts_an_upload_may_have(total: int) -> None:
    part = part_bytes(total)
    assert part >= SMALLEST_PART_BYTES
    assert part % MIB == 0
    assert part * LARGEST_PART_COUNT >= total


def test_progress_says_bytes_rate_and_time_left() -> None:
    assert describe(250, 1000, 0.5) == "250 B of 1.0 kB (25 %), 500 B/s, 2 s left"
    assert describe(1000, 1000, 2) == "1.0 kB of 1.0 kB (100 %), 500 B/s, in 2 s"
    assert describe(0, 1000, 1) == "0 B of 1.0 kB (0 %), 0 B/s"
    assert [format_bytes(count) for count in (0, 999, 123_456, 14_500_000_000)] == ["0 B", "999 B", "123 kB", "14.5 GB"]
    assert [duration(seconds) for seconds in (0.4, 61, 3660)] == ["0 s", "1 min 1 s", "1 h 1 min"]


def test_a_log_gets_a_line_at_most_every_two_seconds() -> None:
    now = [0.0]
    log = io.StringIO()
    progress = Progress("merge", 1000, log, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 0.1
        progress.add(10)
    progress.close()
    assert 4 <= len(log.getvalue().splitlines()) <= 6
    assert log.getvalue().splitlines()[-1] == "merge: 1.0 kB of 1.0 kB (100 %), 100 B/s, in 10 s"
