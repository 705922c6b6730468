"""Reads what engines log of their memory and of their start, for the passes that ask for it.

Guarantees
- a log that says what is asked for is read once, as long as the passes go on asking for it;
- one that cannot be read, or does not say it, is tried TRIES times, RETRY_SECONDS apart, and then left alone;
- neither fails a pass, and none holds one for longer than the cluster's time limit for logs.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.planning.feedback.engine_log import lack_in, measured_in
from ftm_operator.planning.feedback.start_parts import start_parts
from ftm_operator.reconcile.engine_feedback import EngineLog, EngineMemory
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.view.object_cache import Key

TRIES = 3
RETRY_SECONDS = 60.0
log = logging.getLogger(__name__)


@dataclass
class _Question:
    log: EngineLog
    tries: int = 0
    read_again: float = 0.0
    """The earliest time of the next try, by the event loop's clock."""
    memory: EngineMemory | None = None

    @property
    def is_settled(self) -> bool:
        return self.memory is not None or self.tries >= TRIES


class EngineLogs:
    """The log that each model's passes ask about."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._questions: dict[Key, _Question] = {}

    def ask(self, key: Key, wanted: EngineLog | None) -> float | None:
        """Notes the log that a pass wants read. Returns the seconds until it is to be read; None if it is not."""
        if wanted is None:
            self._questions.pop(key, None)
            return None
        question = self._questions.get(key)
        if question is None or question.log != wanted:
            question = self._questions[key] = _Question(wanted)
        question.log = wanted
        if question.is_settled:
            return None
        return max(0.0, question.read_again - asyncio.get_running_loop().time())

    async def read(self, key: Key) -> None:
        """Reads what the last pass asked for, if it is due."""
        question, now = self._questions.get(key), asyncio.get_running_loop().time()
        if question is None or question.is_settled or now < question.read_again:
            return
        question.tries += 1
        question.read_again = now + RETRY_SECONDS
        wanted = question.log
        try:
            if wanted.failed:
                text = await self._cluster.log_end(key[0], wanted.pod, wanted.container, previous=wanted.previous)
                memory = EngineMemory(lack=lack_in(text))
            else:
                text = await self._cluster.log_beginning(key[0], wanted.pod, wanted.container)
                memory = EngineMemory(measured=measured_in(text), parts=start_parts(text))
        except ApiError as error:
            log.debug("%s/%s: %s", *key, error)
            return
        question.memory = memory if memory != EngineMemory() else None

    def memory_of(self, key: Key) -> Mapping[EngineLog, EngineMemory]:
        """Returns the memory that the model's engine logged, by the log that says so."""
        question = self._questions.get(key)
        return {question.log: question.memory} if question and question.memory else {}
