"""Shows bytes done, rate and time left, on stderr: a line that rewrites itself on a terminal, else a line every 2 s."""

import sys
import threading
import time
from collections.abc import Callable
from typing import ClassVar, TextIO

from ftm_jobs.contract.byte_counts import format_bytes

TERMINAL_INTERVAL_SECONDS = 0.2
LOG_INTERVAL_SECONDS = 2.0


class Progress:
    """Counts from any thread; `close` says how it ended."""

    _on_terminal: ClassVar[TextIO | None] = None
    """The terminal whose last line is a progress that has not ended."""

    @classmethod
    def end_line(cls) -> None:
        """Ends the line that rewrites itself, if there is one, so that what is printed next has a line of its own."""
        stream, cls._on_terminal = cls._on_terminal, None
        if stream:
            print(file=stream, flush=True)

    def __init__(
        self,
        label: str,
        total_bytes: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total = total_bytes
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_INTERVAL_SECONDS if self._terminal else LOG_INTERVAL_SECONDS
        self._done = 0
        self._start = self._shown = clock()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = self._clock()
            if now - self._shown >= self._interval:
                self._shown = now
                self._print(now)

    def close(self) -> None:
        with self._lock:
            self._print(self._clock(), last=True)

    def _print(self, now: float, last: bool = False) -> None:
        line = f"{self._label}: {describe(self._done, self._total, now - self._start)}"
        if self._terminal:
            print(f"\r{line}\x1b[K", end="\n" if last else "", file=self._stream, flush=True)
            Progress._on_terminal = None if last else self._stream
        else:
            print(line, file=self._stream, flush=True)


def describe(done: int, total: int, seconds: float) -> str:
    """Returns `1.2 GB of 4.8 GB (25 %), 310 MB/s, 12 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    percent = 100 * done // total if total else 100
    text = f"{format_bytes(done)} of {format_bytes(total)} ({percent} %), {format_bytes(rate)}/s"
    if done >= total:
        return f"{text}, in {duration(seconds)}"
    return f"{text}, {duration((total - done) / rate)} left" if rate else text


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
