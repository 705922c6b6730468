"""Runs bounded pipelines of threads, by which streams of blocks are read, hashed, changed and written."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ftm_jobs.errors import Interrupted

SIGNAL_SECONDS = 1.0
"""A signal that comes just before the main thread begins to wait is not noticed before the wait ends."""

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R]:
    """Yields `function` of each item, in the items' order, with at most `ahead` of them begun and not yet taken.

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


@dataclass(frozen=True)
class Stage(Generic[R]):
    """Something that is done to each item in turn."""

    run: Callable[[R], object]
    ordered: bool = False
    """One item at a time, in the items' order: `run` may then keep state."""


def through(
    items: Iterable[T], begin: Callable[[T], R], stages: Sequence[Stage[R]], *, threads: int, ahead: int
) -> None:
    """Sends what `begin` makes of each item through all stages, at most `ahead` of them begun and not yet done.

    As oneTBB's parallel_pipeline, with filters that are parallel or serial in order, and `ahead` live tokens.
    The stages share the threads: one keeps its item while the next stage is free, so that the item's bytes stay in that
    processor's cache, and takes the item that is furthest otherwise. So no processor is idle, whichever stage is the
    slowest, and threads seldom wait for each other. The first error ends it, and is raised when what is in a stage has
    ended; interrupted, it waits for nothing: a stalled network must not hold it.
    """
    line = _Line(iter(items), begin, [_Station(stage) for stage in stages], ahead)
    workers = [threading.Thread(target=line.work, daemon=True) for _ in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(SIGNAL_SECONDS)
    except BaseException:
        line.stop()
        raise
    if line.error:
        raise line.error


@dataclass
class _Station(Generic[R]):
    """A stage, and the items that are before it."""

    stage: Stage[R]
    turn: int = 0
    """The number of the item that an ordered stage takes next."""
    busy: bool = False
    waiting: dict[int, R] = field(default_factory=dict)

    def takes(self, number: int) -> bool:
        return not self.stage.ordered or (not self.busy and self.turn == number)


@dataclass
class _Line(Generic[T, R]):
    """The place of each item."""

    items: Iterator[T]
    begin: Callable[[T], R]
    stations: list[_Station[R]]
    ahead: int
    begun: int = 0
    done: int = 0
    exhausted: bool = False
    stopped: bool = False
    error: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def work(self) -> None:
        """Does one thread's work."""
        try:
            while task := self._take():
                task()
        except BaseException as error:  # noqa: BLE001 - raised where the work was asked for
            self.stop(error)

    def stop(self, error: BaseException | None = None) -> None:
        with self.changed:
            self.error = self.error or error
            self.stopped = True
            self.changed.notify_all()

    def _take(self) -> Callable[[], None] | None:
        """The item that is furthest and can go on, else a new one; None when there will be no more."""
        with self.changed:
            while not self.stopped:
                for place, station in reversed(list(enumerate(self.stations))):
                    if not station.busy and station.turn in station.waiting:
                        station.busy = True
                        number, item = station.turn, station.waiting.pop(station.turn)
                        return lambda: self._go_on(number, item, place)
                if not self.exhausted and self.begun - self.done < self.ahead:
                    for new in self.items:
                        number = self.begun
                        self.begun += 1
                        return lambda: self._begin(number, new)
                    self.exhausted = True
                    self.changed.notify_all()
                if self.exhausted and self.begun == self.done:
                    return None
                self.changed.wait()
            return None

    def _begin(self, number: int, new: T) -> None:
        item = self.begin(new)
        self._go_on(number, item, self._enter(number, item, 0))

    def _go_on(self, number: int, item: R, place: int | None) -> None:
        """From the stage that it has entered, as far as stages are free."""
        while place is not None:
            self.stations[place].stage.run(item)
            self._leave(place)
            place = self._enter(number, item, place + 1)

    def _enter(self, number: int, item: R, place: int) -> int | None:
        """The place, if the item may go on there now."""
        with self.changed:
            if place == len(self.stations):
                self.done += 1
                self.changed.notify_all()
                return None
            station = self.stations[place]
            if not station.takes(number):
                station.waiting[number] = item
                return None
            station.busy = station.stage.ordered
            return None if self.stopped else place

    def _leave(self, place: int) -> None:
        station = self.stations[place]
        if station.stage.ordered:
            with self.changed:
                station.busy = False
                station.turn += 1
                if station.turn in station.waiting:
                    self.changed.notify()
