"""Queues keys of work for one event loop.

Guarantees
- a key is worked on by one worker at a time;
- additions of a waiting key coalesce;
- a key added while it is worked on is worked on once more;
- a delayed addition never hides or delays an immediate one, and of two delayed ones the earlier counts;
- retries of a key back off from RETRY_FIRST to RETRY_LAST seconds, with jitter, until it succeeds.
"""

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
RETRY_FIRST, RETRY_LAST = 0.5, 300.0


class WorkQueue(Generic[Key]):
    """A queue with the guarantees above."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._waiting: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._busy: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._ready = asyncio.Event()
        self._jitter = jitter

    def add(self, key: Key) -> None:
        self._cancel_timer(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._ready.set()

    def add_after(self, key: Key, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and timer.when() <= loop.time() + seconds:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def take(self) -> Key:
        """Returns the key that has waited longest; `done` or `retry` must follow."""
        while not self._waiting:
            self._ready.clear()
            await self._ready.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._busy.add(key)
        return key

    def done(self, key: Key) -> None:
        self._failures.pop(key, None)
        self._release(key)

    def retry(self, key: Key) -> float:
        """Works on the key again after a delay; returns it in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(RETRY_FIRST * 2.0 ** (failures - 1), RETRY_LAST) * (0.5 + self._jitter() / 2)
        self.add_after(key, delay)
        self._release(key)
        return delay

    def oldest_wait_seconds(self) -> float:
        """Returns the wait of the key that has waited longest."""
        if not self._waiting:
            return 0.0
        return asyncio.get_running_loop().time() - next(iter(self._waiting.values()))

    def _release(self, key: Key) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _cancel_timer(self, key: Key) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
