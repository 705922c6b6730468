"""Keeps what engines measured: in memory, and in a ConfigMap of each namespace that outlives operator and models.

The ConfigMap is read once for each namespace, before the first pass there, and written in full when a measurement says
something new. An operator that may not read or write it goes on with what it measured itself.
"""

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus

from ftm_operator.planning.feedback.measurements import Measurement, Measurements, added, read
from ftm_operator.resources.measurements import CONFIG_MAP, config_map
from ftm_operator.runtime.cluster import ApiError, Cluster

log = logging.getLogger("ftm_operator.runtime.measurement_store")


class MeasurementStore:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, Measurements] = {}
        self._forbidden: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def load(self, namespace: str) -> Measurements:
        """All that is known there. Raises ApiError if the API server does not answer at the first time."""
        if (known := self._known.get(namespace)) is not None:
            return known
        async with self._one_at_a_time:
            if namespace not in self._known:
                self._known[namespace] = await self._read(namespace)
            return self._known[namespace]

    async def keep(self, namespace: str, measured: Sequence[Measurement]) -> None:
        """Writes what is new; a write that fails is made up for by the next."""
        async with self._one_at_a_time:
            known = self._known.get(namespace, {})
            new = [each for each in measured if not each.says_what(known.get(each.key))]
            if not new:
                return
            self._known[namespace] = added(known, new)
            if namespace in self._forbidden:
                return
            try:
                await self._cluster.apply(config_map(namespace, self._known[namespace]))
            except ApiError as error:
                log.warning("%s/%s: what was measured is not kept: %s", namespace, CONFIG_MAP, error)

    async def _read(self, namespace: str) -> Measurements:
        try:
            found = await self._cluster.get("ConfigMap", namespace, CONFIG_MAP)
        except ApiError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            self._forbidden.add(namespace)
            log.warning("%s/%s: what was measured before is not known: %s", namespace, CONFIG_MAP, error)
            return {}
        return read((found or {}).get("data") or {})
