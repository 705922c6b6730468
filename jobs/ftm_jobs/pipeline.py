"""Bounded, ordered pipelines of threads: what streams of blocks are read, hashed, changed and written with."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ftm_jobs.errors import Interrupted

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R]:
    """`function` of each item, in the items' order, with at most `ahead` of them begun and not yet taken.

    One thread means one item at a time, in order, so `function` may then keep state. The first error ends the stream;
    what has not begun is dropped, what has is waited for, unless the step is interrupted: a stalled network must not
    hold it.
    """
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[R]] = deque()
    wait = True
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except Interrupted:
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
        if isinstance(items, Generator):
            items.close()
