"""Ordered, bounded pipelines."""

import threading
import time
from collections.abc import Iterator

import pytest

from ftm_jobs.pipeline import in_order


def test_results_come_in_the_items_order_whatever_finishes_first() -> None:
    def slow_when_even(item: int) -> int:
        time.sleep(0.01 * (item % 2 == 0))
        return item

    assert list(in_order(slow_when_even, range(20), threads=4, ahead=6)) == list(range(20))


def test_no_more_items_are_begun_than_asked() -> None:
    begun: list[int] = []
    stream = in_order(begun.append, range(100), threads=4, ahead=3)
    next(stream)
    time.sleep(0.05)
    assert len(begun) <= 3
    stream.close()


def test_one_thread_takes_one_item_at_a_time_in_order() -> None:
    busy, seen = threading.Lock(), list[int]()

    def alone(item: int) -> None:
        assert busy.acquire(blocking=False)
        seen.append(item)
        time.sleep(0.001)
        busy.release()

    list(in_order(alone, range(30), threads=1, ahead=8))
    assert seen == list(range(30))


def test_the_first_error_ends_the_stream_and_the_streams_before_it() -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            ended.set()

    def fails_at_three(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(in_order(lambda item: item, in_order(fails_at_three, items(), threads=2, ahead=2), threads=1, ahead=2))
    assert ended.is_set()
