"""Asks a served model a question by way of its OpenAI-compatible API."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import httpx2

ANSWER_SECONDS = 300
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def chat_answer(url: str, model: str, question: str, headers: Mapping[str, str] = NO_HEADERS) -> str:
    """Returns the greedy answer to a question. Raises HTTPError."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24}
    response = httpx2.post(
        f"{url}/v1/chat/completions", json=body, headers=dict(headers), timeout=ANSWER_SECONDS, trust_env=False
    )
    response.raise_for_status()
    answer: str = response.json()["choices"][0]["message"]["content"]
    return answer


@dataclass
class Asked:
    """The answers, and the failures, of a model that is asked again and again."""

    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def asked_all_the_time(ask: Callable[[], str], pause_seconds: float = 0.0) -> Iterator[Asked]:
    """Calls `ask` again and again while the block lasts; HTTPError is a failure."""
    asked, end = Asked(), threading.Event()

    def go_on() -> None:
        while not end.wait(pause_seconds):
            try:
                asked.answers.append(ask())
            except httpx2.HTTPError as error:
                asked.failures.append(str(error))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield asked
    finally:
        end.set()
        thread.join()
