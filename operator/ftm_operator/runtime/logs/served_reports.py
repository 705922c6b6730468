"""Reads from sidecars' logs whether the engines beside them are what was verified.

Guarantees
- a log is read until it tells a verdict, READ_SECONDS apart, and then until the pod is ready by it, UNREADY_SECONDS
  apart, since the verdict may be on the engine's run before; and again once a container of the pod was started again
  or its readiness changed;
- a log that cannot be read fails no pass.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.contract.verification import ServedVerification, newest_verdict
from ftm_operator.observe.adapter_pods import checked_pods, runs
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.serving_labels import SERVED_CHECK
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.view.object_cache import Key

READ_SECONDS = 10.0
UNREADY_SECONDS = 60.0
LINES = 20
LOG_BYTES = 64 * 1024
log = logging.getLogger(__name__)


@dataclass
class _Sidecar:
    """A sidecar, and what it said of the engine beside it."""

    runs: object
    """The pod and the runs of its containers that the verdict is of."""
    is_ready: bool
    verdict: ServedVerification | None = None
    read_again: float = 0.0
    """The earliest time of the next read, by the event loop's clock."""

    @property
    def is_settled(self) -> bool:
        return self.is_ready and self.verdict is not None and bool(self.verdict.checks)


class ServedReports:
    """The last verdicts of all models' sidecars."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sidecars: dict[Key, dict[str, _Sidecar]] = {}

    async def read(self, key: Key, pods: Sequence[Manifest]) -> None:
        """Reads the logs that are due, of the model's pods."""
        before, sidecars = self._sidecars.pop(key, {}), {}
        for pod in checked_pods(pods):
            name = str(pod["metadata"]["name"])
            run, is_ready = runs(pod), bool(true_condition(pod, "Ready"))
            known = before.get(name)
            same = known is not None and (known.runs, known.is_ready) == (run, is_ready)
            sidecars[name] = known if known and same else _Sidecar(run, is_ready)
        if not sidecars:
            return
        self._sidecars[key] = sidecars
        now = asyncio.get_running_loop().time()
        due = [name for name, each in sidecars.items() if not each.is_settled and now >= each.read_again]
        await asyncio.gather(*(self._read(key[0], name, sidecars[name]) for name in due))

    def said(self, key: Key) -> Mapping[str, ServedVerification]:
        """Returns the verdicts, by the names of the model's pods."""
        return {name: each.verdict for name, each in self._sidecars.get(key, {}).items() if each.verdict}

    def seconds_to_next(self, key: Key) -> float | None:
        """Returns the seconds until a log of the model is to be read; None if only a change makes that worth it."""
        now, sidecars = asyncio.get_running_loop().time(), self._sidecars.get(key, {}).values()
        return min((max(0.0, each.read_again - now) for each in sidecars if not each.is_settled), default=None)

    def forget(self, key: Key) -> None:
        self._sidecars.pop(key, None)

    async def _read(self, namespace: str, pod: str, sidecar: _Sidecar) -> None:
        now = asyncio.get_running_loop().time()
        sidecar.read_again = now + READ_SECONDS
        try:
            text = await self._cluster.log_tail(namespace, pod, SERVED_CHECK, LINES, LOG_BYTES)
        except ApiError as error:
            log.debug("%s/%s: %s", namespace, pod, error)
            return
        sidecar.verdict = newest_verdict(text.splitlines())
        if sidecar.verdict is not None:
            sidecar.read_again = now + UNREADY_SECONDS
