"""Shows on stderr how a benchmark goes on: a line that is rewritten on a terminal."""

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ftm_operator.benchmark.figures import RequestTimes
from ftm_operator.benchmark.load import Progress as OnProgress

REFRESH_SECONDS = 0.2
SHOWN_CHARACTERS = 20
"""The end of an endpoint's name that is shown; the whole line has 80 characters."""


@contextlib.contextmanager
def shown_progress(title: str, requests: int) -> Iterator[OnProgress]:
    """Yields a function to call as requests begin and end."""
    columns = (
        TextColumn("ftm: {task.description}", markup=False),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title[-SHOWN_CHARACTERS:], total=requests, now="warming up")

        shown = 0.0

        def show(ended: Sequence[RequestTimes], in_flight: int) -> None:
            nonlocal shown
            if time.monotonic() - shown > REFRESH_SECONDS or not in_flight:
                shown = time.monotonic()
                progress.update(task, completed=len(ended), now=summary(ended, in_flight))

        yield show


def summary(ended: Sequence[RequestTimes], in_flight: int) -> str:
    """Returns how it goes so far: requests in flight, output tokens per second, mean time to first token, errors."""
    parts = [f"{in_flight} in flight"]
    answered = [each for each in ended if each.error is None]
    if answered:
        seconds = max(each.started + each.e2el for each in answered)
        parts.append(f"{sum(each.output_tokens for each in answered) / seconds:.1f} tokens/s")
        parts.append(f"TTFT {1000 * sum(each.ttft for each in answered) / len(answered):.0f} ms")
    if failed := len(ended) - len(answered):
        parts.append(f"{failed} failed")
    return ", ".join(parts)
