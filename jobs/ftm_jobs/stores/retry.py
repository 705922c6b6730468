"""Tries again what may pass: a bounded number of times, with exponential backoff and full jitter (by tenacity)."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

T = TypeVar("T")

ATTEMPTS = 6
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 20.0
LONGEST_WAIT_SECONDS = 300.0
"""The most that is waited where a server asks for more; the Hub's rate limits are counted over five minutes."""

_LOG = logging.getLogger(__name__)
_JITTER = wait_random_exponential(multiplier=FIRST_DELAY_SECONDS, max=LONGEST_DELAY_SECONDS)


class TransientError(Exception):
    """An error that may pass; its text says what happened."""

    def __init__(self, text: str, after_seconds: float = 0.0) -> None:
        """`after_seconds` is the time that the server asks to wait."""
        super().__init__(text)
        self.after_seconds = after_seconds


def retry(
    operation: Callable[[], T],
    label: str,
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Returns the result of `operation`, tried again when it raises TransientError; the last one is raised.

    `label` is how the log names the operation's object. Other errors, and an interruption, pass at once.
    """

    def tell(state: RetryCallState) -> None:
        _LOG.warning(
            "%s: %s; attempt %d of %d in %.1f s",
            label,
            _error(state),
            state.attempt_number + 1,
            attempts,
            state.upcoming_sleep,
        )

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(attempts),
        wait=_delay_seconds,
        sleep=sleep,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(operation)


def _delay_seconds(state: RetryCallState) -> float:
    error = _error(state)
    asked = error.after_seconds if isinstance(error, TransientError) else 0.0
    return _JITTER(state) + min(LONGEST_WAIT_SECONDS, asked)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
