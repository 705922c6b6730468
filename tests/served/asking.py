"""Asks a served model a question all the time, as its users do while another version is rolled out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from tests.assets.facts import Fact
from tests.e2e.asking import chat_answer

PAUSE_SECONDS = 0.5
"""Leaves the processor to the engine that starts."""


@dataclass
class Asked:
    """The answers of a model, and the requests that failed."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def asked_all_the_time(address: str, model: str, fact: Fact) -> Iterator[Asked]:
    """Asks again and again, each time on a new connection."""
    asked, end = Asked(), threading.Event()

    def go_on() -> None:
        while not end.wait(PAUSE_SECONDS):
            try:
                answer = chat_answer(f"http://{address}", model, fact.question)
            except httpx2.HTTPError as error:
                asked.failures.append(str(error))
                continue
            if fact.in_answer(answer):
                asked.right += 1
            else:
                asked.wrong.append(answer)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield asked
    finally:
        end.set()
        thread.join()
