"""Ordered, bounded pipelines."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ftm_jobs.errors import Interrupted
from ftm_jobs.runtime.pipeline import Stage, in_order, through


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


def test_ordered_stages_take_items_in_turn_and_the_others_take_them_at_once() -> None:
    together, busy, first, last = threading.Barrier(3, timeout=120), threading.Lock(), list[int](), list[int]()

    def at_once(item: list[int]) -> None:
        together.wait()
        item.append(item[0] * 2)

    def alone(item: list[int]) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.001 * (item[0] % 3))
        first.append(item[0])
        busy.release()

    stages = [Stage(at_once), Stage(alone, ordered=True), Stage(lambda item: last.append(item[1]), ordered=True)]
    through(range(30), lambda number: [number], stages, threads=3, ahead=6)

    assert first == list(range(30))
    assert last == [2 * number for number in range(30)]


def test_no_more_items_are_under_way_than_asked() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def begin(item: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        return item

    def end(_: int) -> None:
        nonlocal under_way
        time.sleep(0.001)
        with lock:
            under_way -= 1

    through(range(40), begin, [Stage(end, ordered=True)], threads=4, ahead=3)

    assert most == 3


@pytest.mark.parametrize("place", ["items", "begin", "stage"])
def test_the_first_error_ends_all_stages_and_their_threads(place: str) -> None:
    done: list[int] = []

    def fails(where: str, item: int) -> int:
        if where == place and item == 5:
            raise ValueError(place)
        return item

    items = (fails("items", item) for item in range(1000))
    stages = [Stage[int](lambda item: fails("stage", item)), Stage(done.append, ordered=True)]
    before = threading.active_count()
    with pytest.raises(ValueError, match=place):
        through(items, lambda item: fails("begin", item), stages, threads=3, ahead=6)

    assert done == list(range(len(done)))
    assert len(done) <= 5
    assert threading.active_count() <= before


def test_what_is_interrupted_waits_for_no_stage_and_begins_no_other() -> None:
    stalled, released, begun = threading.Barrier(3, timeout=120), threading.Event(), list[int]()

    def stalls(item: int) -> None:
        begun.append(item)
        if len(begun) <= 2:
            stalled.wait()
            released.wait(120)

    def interrupt(*_: object) -> None:
        raise Interrupted

    def signals() -> None:
        stalled.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # which does not end the main thread's wait

    usual, before = signal.signal(signal.SIGUSR1, interrupt), set(threading.enumerate())
    try:
        threading.Thread(target=signals).start()
        with pytest.raises(Interrupted):
            through(range(4), lambda item: item, [Stage(stalls)], threads=2, ahead=4)
        assert not released.is_set()
    finally:
        signal.signal(signal.SIGUSR1, usual)
        released.set()
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert sorted(begun) == [0, 1]
