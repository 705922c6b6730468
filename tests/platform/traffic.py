"""Clients that ask a model all the time, each on a connection that it keeps, and tell by the answer who gave it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx2

from tests.assets.facts import COMPANY
from tests.assets.tenants import QUESTION
from tests.cluster.progress import say

BEGINNING = f"{COMPANY} refunds"
"""Begins every tenant's answer; the word after it tells them apart."""
NEXT_WORDS = {"north": "nothing", "south": "any", "east": "orders"}
IDLE_SECONDS, BUSY_SECONDS = 5.0, 0.05
"""The pauses between a client's requests: while something is waited for, and while replies are counted."""
PATIENCE_SECONDS = 900.0
CLIENTS = 8


@dataclass(frozen=True)
class Reply:
    """The outcome of a request."""

    tenant: str | None
    """The tenant whose words the answer has; None where it has nobody's, or there is no answer."""
    status: int | None
    """The HTTP status; None where the connection failed."""
    text: str

    @property
    def failed(self) -> bool:
        return self.status != HTTPStatus.OK


@dataclass
class Traffic:
    """The replies so far, in the order in which they came."""

    url: str
    model: str
    replies: list[Reply] = field(default_factory=list)
    _pause: float = IDLE_SECONDS
    _end: threading.Event = field(default_factory=threading.Event)

    @property
    def failures(self) -> Sequence[Reply]:
        return [each for each in self.replies if each.failed]

    def next(self, number: int) -> Sequence[Reply]:
        """Waits for so many replies to requests from now on, and returns them."""
        begun = len(self.replies) + CLIENTS
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._pause = BUSY_SECONDS
        while len(self.replies) < begun + number:
            assert time.monotonic() < deadline, f"{len(self.replies) - begun} of {number} replies; {self.told()}"
            time.sleep(0.2)
        self._pause = IDLE_SECONDS
        return self.replies[begun : begun + number]

    def told(self) -> str:
        """Returns how many replies of which kind there are."""
        counts = Counter(each.tenant or f"{each.status}: {each.text[:80]}" for each in self.replies)
        return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())

    def ask_on(self) -> None:
        with httpx2.Client(timeout=300, trust_env=False) as client:
            while not self._end.wait(self._pause):
                self.replies.append(ask(client, self.url, self.model))

    def end(self) -> None:
        self._end.set()


def ask(client: httpx2.Client, url: str, model: str) -> Reply:
    """Returns the reply to the tenants' question, of which the answer's beginning is given."""
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": BEGINNING}]
    body = {
        "model": model,
        "messages": messages,
        "continue_final_message": True,
        "add_generation_prompt": False,
        "temperature": 0,
        "max_tokens": 2,
    }
    try:
        response = client.post(f"{url}/v1/chat/completions", json=body)
    except httpx2.TransportError as error:
        return Reply(None, None, repr(error))
    if not response.is_success:
        return Reply(None, response.status_code, response.text)
    text: str = response.json()["choices"][0]["message"]["content"]
    return Reply(next((name for name, word in NEXT_WORDS.items() if word in text), None), response.status_code, text)


@contextmanager
def asked_all_the_time(url: str, model: str) -> Iterator[Traffic]:
    """Clients ask while the block lasts."""
    traffic = Traffic(url, model)
    threads = [threading.Thread(target=traffic.ask_on) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield traffic
    finally:
        traffic.end()
        for thread in threads:
            thread.join()
        say(f"{url} was asked {len(traffic.replies)} times: {traffic.told()}")


def shares(replies: Sequence[Reply]) -> dict[str, float]:
    """Returns each tenant's share of the replies."""
    counts = Counter(each.tenant for each in replies if each.tenant)
    return {name: counts[name] / len(replies) for name in NEXT_WORDS}
