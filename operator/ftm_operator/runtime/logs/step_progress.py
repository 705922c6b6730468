"""Reads how far running steps are, from the last line of their pods' logs.

Guarantees
- a log is read at most once in READ_SECONDS, and only while passes go on asking for it;
- one that cannot be read is tried again after UNREADABLE_SECONDS;
- neither fails a pass.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ftm_jobs.contract.steps import progress_in
from ftm_operator.reconcile.passes import StepPod
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.view.object_cache import Key

READ_SECONDS = 10.0
"""The shortest time between two reads of a log, and so between the status writes that tell of it."""
UNREADABLE_SECONDS = 60.0
log = logging.getLogger(__name__)


@dataclass
class _RunningPod:
    pod: StepPod
    progress: str | None = None
    read_again: float = 0.0
    """The earliest time of the next read, by the event loop's clock."""


class StepProgress:
    """The progress of the step that each model waits for."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pods: dict[Key, _RunningPod] = {}

    def ask(self, key: Key, pod: StepPod | None) -> float | None:
        """Notes the pod that a pass wants to hear of. Returns the seconds until it is worth another pass, if any."""
        if pod is None:
            self._pods.pop(key, None)
            return None
        if key not in self._pods or self._pods[key].pod != pod:
            self._pods[key] = _RunningPod(pod)
        return READ_SECONDS

    async def read(self, key: Key) -> None:
        """Reads the log that the last pass asked for, if it is due."""
        running, now = self._pods.get(key), asyncio.get_running_loop().time()
        if running is None or now < running.read_again:
            return
        running.read_again = now + READ_SECONDS
        try:
            line = await self._cluster.last_log_line(key[0], running.pod.name, running.pod.container)
        except ApiError as error:
            log.debug("%s/%s: %s", *key, error)
            running.read_again = now + UNREADABLE_SECONDS
            return
        running.progress = progress_in(line) or running.progress

    def by_pod(self, key: Key) -> Mapping[str, str]:
        """Returns the progress of the model's step, by the name of its pod."""
        running = self._pods.get(key)
        return {running.pod.name: running.progress} if running and running.progress else {}
