"""Lists everything now and then, repairs the cache by it, and has every resource looked at again.

A watch may miss a change: what a full list shows to be new is reported to the health check.
"""

import asyncio
import logging
import random
from http import HTTPStatus

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.health import Health
from ftm_operator.runtime.kinds import CHILDREN, OPTIONAL, versions_of
from ftm_operator.runtime.resource_queue import KINDS as RESOURCES
from ftm_operator.runtime.resource_queue import ResourceKey, ResourceQueue
from ftm_operator.runtime.view import gpu_inventory
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.object_cache import version
from ftm_operator.settings import Settings

KINDS = (KIND, *(kind for kind in CHILDREN if kind not in OPTIONAL))
FIRST_LIST_LONGEST_WAIT = 30.0
"""The longest time between two tries of the first full list, in seconds; the shortest is a second."""
log = logging.getLogger(__name__)


class FullLists:
    """Full lists of all kinds in the namespaces that the installation names."""

    def __init__(
        self, cluster: Cluster, view: ClusterView, queue: ResourceQueue, settings: Settings, health: Health
    ) -> None:
        self._cluster = cluster
        self._view = view
        self._queue = queue
        self._settings = settings
        self._health = health

    async def first(self) -> None:
        """Tries until everything has been listed once."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ApiError),
            wait=wait_exponential(max=FIRST_LIST_LONGEST_WAIT),
            before_sleep=_warn,
        )
        await retrying(self.list_everything)

    async def repeat(self) -> None:
        """Lists everything again and again; a list that fails is made up for by the next."""
        while True:
            await asyncio.sleep(self._settings.resync_seconds * random.uniform(0.9, 1.1))
            try:
                await self.list_everything()
            except ApiError as error:
                log.warning("a full list failed: %s", error)

    async def list_everything(self) -> None:
        """Repairs the cache and queues every resource. Raises ApiError if a list fails."""
        is_first = not self._health.resynced
        await self._look_for_optional_kinds()
        for kind in (*KINDS, *sorted(self._view.optional_kinds)):
            try:
                missed = [each for part in self._parts() for each in await self._list_kind(kind, part)]
            except ApiError as error:
                if kind not in OPTIONAL or error.status != HTTPStatus.NOT_FOUND:
                    raise
                self._is_gone(kind)
                continue
            if missed and not is_first:
                self._health.watch_missed(kind, max(map(version, missed)))
        if self._settings.observe_accelerators:
            for kind in gpu_inventory.KINDS:
                await self._list_gpus(kind)
        for kind in RESOURCES:
            for key in self._view.objects.keys(kind):
                self._queue.add(ResourceKey(kind, *key))
        self._health.resync_finished()

    async def _look_for_optional_kinds(self) -> None:
        """Forgets the objects of a kind that is gone, since they went with it."""
        groups = self._view.api_groups = await self._cluster.api_groups()
        self._view.kubernetes = await self._cluster.kubernetes_version()
        for kind in OPTIONAL:
            known = {each.partition("/")[0] for each in versions_of(kind)}
            is_served = bool(known & groups) and await self._cluster.serves(kind)
            if is_served and kind not in self._view.optional_kinds:
                log.info("the cluster has %s", kind)
                self._view.optional_kinds.add(kind)
            elif not is_served and kind in self._view.optional_kinds:
                self._is_gone(kind)

    def _is_gone(self, kind: str) -> None:
        log.warning("the cluster serves no %s any more, or not yet", kind)
        self._view.optional_kinds.discard(kind)
        self._view.objects.forget(kind)
        self._health.watch_ended(kind)

    def _parts(self) -> tuple[str | None, ...]:
        return self._settings.namespaces or (None,)

    async def _list_gpus(self, kind: str) -> None:
        """Counts GPUs by one kind; a cluster may be older than it, or may not let it be read."""
        try:
            listing = await self._cluster.list(kind)
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                raise
            log.warning("GPUs are not counted by %s: %s", kind, error)
            return
        self._view.gpus.listed(kind, listing.items)

    async def _list_kind(self, kind: str, namespace: str | None) -> list[Manifest]:
        """Returns the objects of the kind that watches had missed."""
        listing = await self._cluster.list(kind, namespace)
        missed = self._view.objects.replace(kind, listing.items, listing.resource_version, namespace)
        for item in missed:
            self._queue.add_concerned(item)
        return missed


def _warn(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.warning("the first full list failed: %s; again in %.0f s", error, state.upcoming_sleep)
