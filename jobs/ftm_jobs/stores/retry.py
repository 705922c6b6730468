"""Bounded retries with exponential backoff and full jitter."""

import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 6
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 20.0
LONGEST_WAIT_SECONDS = 300.0
"""However long a server asks to wait; the Hub's rate limits are counted over five minutes."""


class TransientError(Exception):
    """An error that may pass; its text says what happened."""

    def __init__(self, text: str, after_seconds: float = 0.0) -> None:
        """`after_seconds`: how long the server asks to wait."""
        super().__init__(text)
        self.after_seconds = after_seconds


def retry(
    operation: Callable[[], T],
    what: str,
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of `operation`, tried again when it raises TransientError; the last one is raised."""
    for attempt in range(1, attempts + 1):
        try:
            return operation()
        except TransientError as error:
            if attempt == attempts:
                raise
            delay = random.uniform(0, min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempt - 1)))
            delay += min(LONGEST_WAIT_SECONDS, error.after_seconds)
            print(f"{what}: {error}; attempt {attempt + 1} of {attempts} in {delay:.1f} s", file=sys.stderr, flush=True)
            sleep(delay)
    raise AssertionError("attempts is at least 1")
