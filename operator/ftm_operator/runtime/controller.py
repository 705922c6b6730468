"""Runs passes over the resources that events concern: one key at a time, and full lists beside them.

Watch events come in by `watch_event`. A pass that fails is repeated later, with the next full list at the latest. While
another operator serves a namespace, its resources wait here: `resume` takes up those that this one may serve.
"""

import asyncio
import logging

from ftm_operator.api.fine_tuned_adapter import KIND as ADAPTER_KIND
from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.cluster import ApiError, Cluster, StandingBy
from ftm_operator.runtime.health import Health
from ftm_operator.runtime.logs.adapter_reports import AdapterReports
from ftm_operator.runtime.passes.adapter_pass import AdapterPass
from ftm_operator.runtime.passes.model_pass import ModelPass
from ftm_operator.runtime.passes.writes import AlreadyThere, ChildrenRefused
from ftm_operator.runtime.resource_queue import ResourceKey, ResourceQueue
from ftm_operator.runtime.view import gpu_inventory, object_cache
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.full_lists import FullLists
from ftm_operator.runtime.view.gpu_inventory import GpuInventory
from ftm_operator.runtime.view.object_cache import key_of
from ftm_operator.settings import Settings

WORKERS = 8
log = logging.getLogger(__name__)


class Controller:
    """The operator's work on one cluster."""

    def __init__(self, cluster: Cluster, settings: Settings, health: Health) -> None:
        self._health = health
        self._cluster = cluster
        self._queue = ResourceQueue()
        self._left_to_others: set[ResourceKey] = set()
        self._view = ClusterView(GpuInventory(settings.accelerators))
        self._lists = FullLists(cluster, self._view, self._queue, settings, health)
        reports = AdapterReports(cluster)
        self._passes: dict[str, ModelPass | AdapterPass] = {
            KIND: ModelPass(cluster, self._view, self._queue, settings, reports),
            ADAPTER_KIND: AdapterPass(cluster, self._view, self._queue, settings, reports),
        }
        health.queue_wait_seconds = self._queue.oldest_wait_seconds

    async def run(self) -> None:
        """Works until cancelled. The first full list comes before the first pass."""
        await self._lists.first()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lists.repeat(), name="full-lists")
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"worker-{number}")

    def watch_event(self, event_type: str | None, item: Manifest) -> None:
        """Takes in a watch event: ADDED, MODIFIED, DELETED, or None for an object of the initial list."""
        kind = item["kind"]
        if kind in gpu_inventory.KINDS:
            if self._view.gpus.watch_event(event_type, item):
                for key in self._view.objects.keys(KIND):
                    self._queue.add_model(key)
            return
        self._health.watch_delivered(kind, object_cache.version(item))
        objects = self._view.objects
        former = objects.get(kind, key_of(item))
        changed = objects.remove(kind, key_of(item)) if event_type == "DELETED" else objects.put(kind, item)
        if changed:
            for version in (item, *([former] if former and kind == ADAPTER_KIND else [])):
                self._queue.add_concerned(version)
                for rival in objects.rivals_of(version):
                    self._queue.add_adapter(key_of(rival))

    def resume(self) -> None:
        """Queues the resources that were left to another operator and that this one may serve now."""
        for key in [key for key in self._left_to_others if self._cluster.seconds_to_write(key.namespace) > 0]:
            self._left_to_others.discard(key)
            self._queue.add(key)

    def _leave(self, key: ResourceKey) -> None:
        self._passes[key.kind].leave(key.key)
        self._left_to_others.add(key)
        self._queue.done(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            if self._cluster.seconds_to_write(key.namespace) <= 0:
                self._leave(key)
                continue
            try:
                await self._passes[key.kind].run(key.key)
            except StandingBy:
                self._leave(key)
            except AlreadyThere:
                self._queue.add(key)
                self._queue.done(key)
            except (ApiError, ChildrenRefused) as error:
                delay = self._queue.retry(key)
                log.warning("%s %s/%s: %s; again in %.1f s", *key, error, delay)
            except Exception:
                delay = self._queue.retry(key)
                log.exception("%s %s/%s: a pass failed; again in %.1f s", *key, delay)
            else:
                self._queue.done(key)
