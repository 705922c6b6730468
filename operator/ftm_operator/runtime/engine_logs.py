"""Reads what engines log of their memory, for the passes that ask for it.

Guarantees
- a log that says what is asked for is read once, as long as the passes go on asking for it;
- one that cannot be read, or does not say it, is tried TRIES times, RETRY_SECONDS apart, and then left alone;
- neither fails a pass, and none holds one for longer than the cluster's time limit for logs.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.engines.vllm import NAME as CONTAINER
from ftm_operator.planning.feedback.engine_log import lack_in, measured_in
from ftm_operator.reconcile.engine_feedback import EngineLog, EngineMemory
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.object_cache import Key

TRIES = 3
RETRY_SECONDS = 60.0
log = logging.getLogger(__name__)


@dataclass
class _Asked:
    log: EngineLog
    tries: int = 0
    read_again: float = 0.0
    """By the event loop's clock."""
    heard: EngineMemory | None = None

    @property
    def is_settled(self) -> bool:
        return self.heard is not None or self.tries >= TRIES


class EngineLogs:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: dict[Key, _Asked] = {}

    def ask(self, key: Key, wanted: EngineLog | None) -> float | None:
        """What a pass needs next. Returns in how many seconds the log is to be read; None: it is not."""
        if wanted is None:
            self._asked.pop(key, None)
            return None
        asked = self._asked.get(key)
        if asked is None or asked.log != wanted:
            asked = self._asked[key] = _Asked(wanted)
        asked.log = wanted
        if asked.is_settled:
            return None
        return max(0.0, asked.read_again - asyncio.get_running_loop().time())

    async def read(self, key: Key) -> None:
        """Reads what the last pass asked for, if it is due."""
        asked, now = self._asked.get(key), asyncio.get_running_loop().time()
        if asked is None or asked.is_settled or now < asked.read_again:
            return
        asked.tries += 1
        asked.read_again = now + RETRY_SECONDS
        wanted = asked.log
        try:
            if wanted.failed:
                text = await self._cluster.log_end(key[0], wanted.pod, CONTAINER, previous=wanted.previous)
                heard = EngineMemory(lack=lack_in(text))
            else:
                text = await self._cluster.log_beginning(key[0], wanted.pod, CONTAINER)
                heard = EngineMemory(measured=measured_in(text))
        except ApiError as error:
            log.debug("%s/%s: %s", *key, error)
            return
        asked.heard = heard if heard != EngineMemory() else None

    def heard(self, key: Key) -> Mapping[EngineLog, EngineMemory]:
        asked = self._asked.get(key)
        return {asked.log: asked.heard} if asked and asked.heard else {}
