"""Starts processes that end with this one, and ends this one in good order when a signal asks for it.

A process has a session of its own, so that Ctrl-C on a terminal reaches it through here alone. Told to end, it has time
to remove what it has begun; a second Ctrl-C takes that time from it. Where this process is killed, Linux tells the
others to end.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from ftm_operator.local.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 0.01
_PR_SET_PDEATHSIG = 1


def stop_on_signals() -> None:
    """Has SIGTERM, SIGHUP and Ctrl-C raise Stopped in the main thread; of later ones, Ctrl-C alone does so again."""
    for number in SIGNALS:
        signal.signal(number, _stop)
    sys.unraisablehook = _stop_again


def end_on_signals() -> None:
    """Has the same signals end this process at once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def running(command: list[str], stop_seconds: float, **options: Any) -> "Iterator[subprocess.Popen[Any]]":
    """Runs a command while the block lasts; what is left of it then has `stop_seconds` to end before it is killed."""
    process = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=_ending_with_parent(),  # noqa: PLW1509 - no other thread runs here, and the function takes no lock
        **options,
    )
    try:
        yield process
    finally:
        stop(process, stop_seconds)


def stop(process: "subprocess.Popen[Any]", seconds: float) -> None:
    """Ends a process and all that it started, and kills what has not ended in time."""
    try:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for other in SIGNALS:
        signal.signal(other, _stop if other is signal.SIGINT else signal.SIG_IGN)
    raise Stopped(number)


def _stop_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raises a Stopped anew that came where Python drops what is raised: in a hook of fork, or a callback."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    number = unraisable.exc_value.number
    signal.signal(signal.SIGALRM, lambda *_: _stop(number, None))
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _ending_with_parent() -> Callable[[], None] | None:
    """Returns what a new process runs before its program, so that it is told to end when this one dies."""
    if sys.platform != "linux":
        return None
    parent, c_library = os.getpid(), ctypes.CDLL(None)

    def tie() -> None:
        c_library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
