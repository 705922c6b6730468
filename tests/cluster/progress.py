"""Says what is being done and how long it took; long steps would otherwise look like hangs. Prints, nothing else."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and its duration when it took long enough to be felt."""
    say(f"{text} …")
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    if seconds >= 1:
        say(f"{text}: {seconds:.0f} s")
