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

log = logging.getLogger(__name__)


class MeasurementStore:
    """The measurements of all namespaces."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._by_namespace: dict[str, Measurements] = {}
        self._forbidden: set[str] = set()
        self._lock = asyncio.Lock()

    async def load(self, namespace: str) -> Measurements:
        """Returns all measurements of a namespace. Raises ApiError if their first read fails."""
        if (measurements := self._by_namespace.get(namespace)) is not None:
            return measurements
        async with self._lock:
            if namespace not in self._by_namespace:
                self._by_namespace[namespace] = await self._read(namespace)
            return self._by_namespace[namespace]

    async def keep(self, namespace: str, measured: Sequence[Measurement]) -> None:
        """Writes the measurements that are new; a write that fails is made up for by the next."""
        async with self._lock:
            measurements = self._by_namespace.get(namespace, {})
            new = [each for each in measured if not each.says_what(measurements.get(each.key))]
            if not new:
                return
            self._by_namespace[namespace] = added(measurements, new)
            if namespace in self._forbidden:
                return
            try:
                await self._cluster.apply(config_map(namespace, self._by_namespace[namespace]))
            except ApiError as error:
                log.warning("%s/%s: new measurements are not kept: %s", namespace, CONFIG_MAP, error)

    def forget(self, namespace: str) -> None:
        """Has the ConfigMap read again before the next pass in the namespace."""
        self._by_namespace.pop(namespace, None)
        self._forbidden.discard(namespace)

    async def _read(self, namespace: str) -> Measurements:
        try:
            kept = await self._cluster.get("ConfigMap", namespace, CONFIG_MAP)
        except ApiError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            self._forbidden.add(namespace)
            log.warning("%s/%s: earlier measurements cannot be read: %s", namespace, CONFIG_MAP, error)
            return {}
        return read((kept or {}).get("data") or {})
