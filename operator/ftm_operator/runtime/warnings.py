"""Reads the Events of objects that wait and do not say why, for the passes that ask for it.

Guarantees
- nothing is read while all is well: a pass asks only for an object that has not started and does not say why;
- an object's Events are read FIRST_SECONDS after they are first asked for, then at delays that double to MOST_SECONDS;
- what cannot be read fails no pass.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.observe.warnings import Subject, warning_in
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.view.object_cache import Key

FIRST_SECONDS, MOST_SECONDS = 3.0, 60.0
log = logging.getLogger(__name__)


@dataclass
class _Unexplained:
    subject: Subject
    read_again: float
    """The earliest time of the next read, by the event loop's clock."""
    delay: float = FIRST_SECONDS
    warning: str | None = None


class Warnings:
    """The object of each model whose Events are asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._questions: dict[Key, _Unexplained] = {}

    def ask(self, key: Key, subject: Subject | None) -> float | None:
        """Notes the object that a pass cannot explain. Returns the seconds until its Events are to be read, if any."""
        if subject is None:
            self._questions.pop(key, None)
            return None
        now = asyncio.get_running_loop().time()
        question = self._questions.get(key)
        if question is None or question.subject != subject:
            question = self._questions[key] = _Unexplained(subject, now + FIRST_SECONDS)
        return max(0.0, question.read_again - now)

    async def read(self, key: Key) -> None:
        """Reads the Events that the last pass asked for, if they are due."""
        question, now = self._questions.get(key), asyncio.get_running_loop().time()
        if question is None or now < question.read_again:
            return
        question.delay = min(2 * question.delay, MOST_SECONDS)
        question.read_again = now + question.delay
        try:
            question.warning = warning_in(await self._cluster.events_of(key[0], *question.subject))
        except ApiError as error:
            log.debug("%s/%s: %s", *key, error)

    def by_subject(self, key: Key) -> Mapping[Subject, str]:
        """Returns the warning of the object that the model waits for."""
        question = self._questions.get(key)
        return {question.subject: question.warning} if question and question.warning else {}
