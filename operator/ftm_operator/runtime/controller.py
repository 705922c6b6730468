"""Runs the passes: observe -> reconcile -> apply, one key at a time, and repairs by full lists what a watch missed.

Holds no logic of its own: what to do is decided in `reconcile`. Watch events come in by `received`.
"""

import asyncio
import logging
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from ftm_jobs.contract.steps import progress_in
from ftm_operator.api.v1alpha1 import API_VERSION, KIND
from ftm_operator.planning.feedback.measurements import Measurements
from ftm_operator.reconcile.passes import Apply, Delete, Observed, Result
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.resources.event import Notice, event
from ftm_operator.resources.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.leader_worker_set import group_name
from ftm_operator.resources.metadata import ARTIFACT, NAME, Manifest
from ftm_operator.runtime import gpu_inventory
from ftm_operator.runtime.cluster import CHILDREN, OPTIONAL, ApiError, Cluster
from ftm_operator.runtime.engine_logs import EngineLogs
from ftm_operator.runtime.gpu_inventory import GpuInventory
from ftm_operator.runtime.health import Health
from ftm_operator.runtime.measurement_store import MeasurementStore
from ftm_operator.runtime.object_cache import Key, ObjectCache, key_of, version
from ftm_operator.runtime.work_queue import WorkQueue
from ftm_operator.settings import Settings

WORKERS = 8
PROGRESS_SECONDS = 10.0
"""Between two looks at the log of a running merge, and so between the status writes that tell of it."""
UNREADABLE_LOG_SECONDS = 60.0
KINDS = (KIND, *(kind for kind in CHILDREN if kind not in OPTIONAL))
log = logging.getLogger("ftm_operator.runtime.controller")


class NameTaken(Exception):
    """A child's name is held by an object that is not ours; it is observed in the next pass."""


@dataclass
class Followed:
    """A running pod and how far it said it is."""

    pod: str
    progress: str | None = None
    read_again: float = 0.0
    """By the event loop's clock."""


class Controller:
    def __init__(self, cluster: Cluster, settings: Settings, health: Health) -> None:
        self._cluster = cluster
        self._settings = settings
        self._health = health
        self._cache = ObjectCache()
        self._gpus = GpuInventory(settings.accelerators)
        self._optional: set[str] = set()
        """Of the kinds that a cluster may lack, those that this one had when everything was last listed."""
        self._queue: WorkQueue[Key] = WorkQueue()
        self._waiters: dict[tuple[str, str], set[Key]] = defaultdict(set)
        self._foreign: dict[tuple[str, Key], Manifest] = {}
        self._followed: dict[Key, Followed] = {}
        self._engine_logs = EngineLogs(cluster)
        self._measurements = MeasurementStore(cluster)
        health.queue_wait_seconds = self._queue.oldest_wait_seconds

    async def run(self) -> None:
        """Works until cancelled. The first full list comes before the first pass."""
        await self._resync_until_done()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync_forever(), name="resync")
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"worker-{number}")

    def received(self, event_type: str | None, item: Manifest) -> None:
        """A watch event: ADDED, MODIFIED, DELETED, or None for an object of the initial list."""
        kind = item["kind"]
        if kind in gpu_inventory.KINDS:
            if self._gpus.received(event_type, item):
                self._enqueue_all()
            return
        self._health.watch_delivered(kind, version(item))
        changed = self._cache.remove(kind, key_of(item)) if event_type == "DELETED" else self._cache.put(kind, item)
        if changed:
            self._enqueue_owners(item)

    def _enqueue_all(self) -> None:
        for key in self._cache.keys(KIND):
            self._queue.add(key)

    def _enqueue_owners(self, item: Manifest) -> None:
        namespace, name = key_of(item)
        if item["kind"] == KIND:
            self._queue.add((namespace, name))
            return
        labels = item["metadata"].get("labels", {})
        if owner := labels.get(NAME):
            self._queue.add((namespace, owner))
        for key in self._waiters.pop((namespace, labels.get(ARTIFACT, "")), ()):
            self._queue.add(key)

    # --- passes ----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                await self._pass(key)
            except NameTaken:
                self._queue.add(key)
                self._queue.done(key)
            except ApiError as error:
                delay = self._queue.retry(key)
                log.warning("%s/%s: %s; again in %.1f s", *key, error, delay)
            except Exception:
                delay = self._queue.retry(key)
                log.exception("%s/%s: a pass failed; again in %.1f s", *key, delay)
            else:
                self._queue.done(key)

    async def _pass(self, key: Key) -> None:
        resource = self._cache.get(KIND, key)
        if resource is None:
            self._followed.pop(key, None)
            self._engine_logs.ask(key, None)
            return
        await self._read_progress(key)
        await self._engine_logs.read(key)
        measurements = await self._measurements.load(key[0])
        result = reconcile(self._observe(resource, measurements), self._settings, datetime.now(UTC))
        await self._measurements.keep(key[0], result.measurements)
        for action in result.actions:
            await self._execute(action)
        if result.status is not None:
            await self._write_status(resource, result)
        for notice in result.notices:
            await self._post(resource, notice)
        if result.waits_for:
            self._waiters[key[0], result.waits_for].add(key)
        self._follow(key, result.follows)
        if (seconds := self._engine_logs.ask(key, result.listens)) is not None:
            self._queue.add_after(key, seconds)
        if result.retry_after is not None:
            self._queue.add_after(key, max(result.retry_after, 1.0))

    def _observe(self, resource: Manifest, measurements: Measurements) -> Observed:
        key = namespace, name = key_of(resource)

        def child(kind: str, key: Key = key) -> Manifest | None:
            return self._foreign.pop((kind, key), None) or self._cache.get(kind, key)

        return Observed(
            resource=resource,
            jobs=lambda label, value: self._cache.labelled("Job", namespace, label, value),
            pods=lambda label, value: self._cache.labelled("Pod", namespace, label, value),
            deployment=child("Deployment"),
            leader_worker_set=child(LEADER_WORKER_SET, (namespace, group_name(name))),
            service=child("Service"),
            accelerators=self._gpus.classes,
            several_nodes=LEADER_WORKER_SET in self._optional,
            progress={one.pod: one.progress for one in (self._followed.get(key),) if one and one.progress},
            heard=self._engine_logs.heard(key),
            measurements=measurements,
        )

    def _follow(self, key: Key, pod: str | None) -> None:
        if pod is None:
            self._followed.pop(key, None)
            return
        if key not in self._followed or self._followed[key].pod != pod:
            self._followed[key] = Followed(pod)
        self._queue.add_after(key, PROGRESS_SECONDS)

    async def _read_progress(self, key: Key) -> None:
        """How far the merge is that the key waits for. At most once in PROGRESS_SECONDS; a log may be missing."""
        followed, now = self._followed.get(key), asyncio.get_running_loop().time()
        if followed is None or now < followed.read_again:
            return
        followed.read_again = now + PROGRESS_SECONDS
        try:
            line = await self._cluster.last_log_line(key[0], followed.pod)
        except ApiError as error:
            log.debug("%s/%s: %s", *key, error)
            followed.read_again = now + UNREADABLE_LOG_SECONDS
            return
        followed.progress = progress_in(line) or followed.progress

    async def _execute(self, action: Apply | Delete) -> None:
        manifest = action.manifest
        kind, key = manifest["kind"], key_of(manifest)
        match action:
            case Delete():
                await self._cluster.delete(manifest)
                self._cache.remove(kind, key)
                log.info("%s/%s: deleted %s", *key, kind)
            case Apply(why="absent") if found := await self._cluster.get(kind, *key):
                await self._adopt(found, manifest)
            case Apply(why=why):
                self._cache.put(kind, await self._cluster.apply(manifest))
                log.info("%s/%s: applied %s: %s", *key, kind, why)

    async def _adopt(self, found: Manifest, wanted: Manifest) -> None:
        """An object of this name is there although no watch told of it: ours from before, or somebody else's."""
        owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences") or []}
        ours = {owner["uid"] for owner in wanted["metadata"]["ownerReferences"]}
        if owners & ours or wanted["kind"] == "Job":
            self._cache.put(wanted["kind"], found)
        else:
            self._foreign[wanted["kind"], key_of(wanted)] = found
        raise NameTaken

    async def _write_status(self, resource: Manifest, result: Result) -> None:
        metadata = resource["metadata"]
        identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": identity, "status": result.status}
        self._cache.put(KIND, await self._cluster.apply(body, "status"))

    async def _post(self, resource: Manifest, notice: Notice) -> None:
        level = logging.WARNING if notice.type == "Warning" else logging.INFO
        log.log(level, "%s/%s: %s: %s", *key_of(resource), notice.reason, notice.message)
        await self._cluster.create_event(event(resource, notice, datetime.now(UTC)))

    # --- resync ----------------------------------------------------------------------------------

    async def _resync_until_done(self) -> None:
        delay = 1.0
        while True:
            try:
                return await self._resync()
            except ApiError as error:
                log.warning("the first full list failed: %s; again in %.0f s", error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 30.0)

    async def _resync_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds * random.uniform(0.9, 1.1))
            try:
                await self._resync()
            except ApiError as error:
                log.warning("a full list failed: %s", error)

    async def _resync(self) -> None:
        """Lists everything, repairs the cache, and looks at every resource again."""
        first = not self._health.resynced
        await self._look_for_optional_kinds()
        for kind in (*KINDS, *self._optional):
            missed: list[Manifest] = []
            for namespace in self._settings.namespaces or (None,):
                missed += await self._resync_kind(kind, namespace)
            if missed and not first:
                self._health.watch_missed(kind, max(map(version, missed)))
        if self._settings.observe_accelerators:
            for kind in gpu_inventory.KINDS:
                await self._list_gpus(kind)
        self._enqueue_all()
        self._health.resync_finished()

    async def _look_for_optional_kinds(self) -> None:
        """What a kind told of is forgotten when the kind is gone, since its objects went with it."""
        for kind in OPTIONAL:
            there = await self._cluster.serves(kind)
            if there and kind not in self._optional:
                log.info("the cluster has %s: they are made where they are needed", kind)
                self._optional.add(kind)
            elif not there and kind in self._optional:
                log.warning("the cluster has no %s any more", kind)
                self._optional.discard(kind)
                self._cache.forget(kind)
                self._health.watch_ended(kind)

    async def _list_gpus(self, kind: str) -> None:
        """A cluster may be older than ResourceSlices, or may not let them be read: then the others count."""
        try:
            listing = await self._cluster.list(kind)
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                raise
            log.warning("GPUs are not counted by %s: %s", kind, error)
            return
        self._gpus.listed(kind, listing.items)

    async def _resync_kind(self, kind: str, namespace: str | None) -> list[Manifest]:
        listing = await self._cluster.list(kind, namespace)
        missed = self._cache.replace(kind, listing.items, listing.resource_version, namespace)
        for item in missed:
            self._enqueue_owners(item)
        return missed
