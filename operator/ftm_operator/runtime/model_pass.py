"""Runs one pass over one FineTunedModel: observe, reconcile, write.

Holds no logic of its own: `reconcile` decides what is to be done.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime

from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.observe.first_seen import FirstSeen
from ftm_operator.planning.feedback.measurements import Measurements
from ftm_operator.reconcile.passes import Observed, Result
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.serving.leader_worker_set import group_name
from ftm_operator.runtime.cluster import Cluster
from ftm_operator.runtime.engine_logs import EngineLogs
from ftm_operator.runtime.measurement_store import MeasurementStore
from ftm_operator.runtime.model_queue import ModelQueue
from ftm_operator.runtime.step_progress import StepProgress
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.object_cache import Key, key_of
from ftm_operator.runtime.warnings import Warnings
from ftm_operator.runtime.writes import ChildrenRefused, Writes
from ftm_operator.settings import Settings

SHORTEST_DELAY_SECONDS = 1.0
"""The shortest time after which a pass asks for another one."""
MOST_ROUNDS = 4
"""Rounds of writes in a pass; the next pass goes on."""


class ModelPass:
    """A pass over the model that a key names, with all that it reads and writes."""

    def __init__(self, cluster: Cluster, view: ClusterView, queue: ModelQueue, settings: Settings) -> None:
        self._view = view
        self._queue = queue
        self._settings = settings
        self._writes = Writes(cluster, view)
        self._progress = StepProgress(cluster)
        self._engine_logs = EngineLogs(cluster)
        self._warnings = Warnings(cluster)
        self._measurements = MeasurementStore(cluster)
        self._first_seen = FirstSeen()

    async def run(self, key: Key) -> None:
        """Raises ApiError if a request fails, and AlreadyThere if another pass must follow at once.

        Raises ChildrenRefused once the status says which children the API server did not take.
        """
        resource = self._view.objects.get(KIND, key)
        if resource is None:
            self.forget(key)
            return
        await self._progress.read(key)
        await self._engine_logs.read(key)
        await self._warnings.read(key)
        measurements = await self._measurements.load(key[0])
        result, refusals = await self._act(resource, measurements)
        effects = result.effects
        if result.status is not None:
            await self._writes.write_status(resource, result.status)
        for notice in result.notices:
            await self._writes.post(resource, notice)
        if refusals:
            raise ChildrenRefused(refusals)
        if effects.awaited_build:
            self._queue.add_with(effects.awaited_build, key)
        if result.retry_after is not None:
            self._queue.add_after(key, max(result.retry_after, SHORTEST_DELAY_SECONDS))
        progress_due = self._progress.ask(key, effects.progress_pod)
        log_due = self._engine_logs.ask(key, effects.engine_log)
        for seconds in (progress_due, log_due, self._warnings.ask(key, effects.unexplained)):
            if seconds is not None:
                self._queue.add_after(key, seconds)

    def leave(self, key: Key) -> None:
        """Forgets what passes remember, since another operator serves the model and may keep other measurements."""
        self.forget(key)
        self._measurements.forget(key[0])

    def forget(self, key: Key) -> None:
        """Forgets what earlier passes remember of the model."""
        self._view.contests.forget(key)
        self._progress.ask(key, None)
        self._engine_logs.ask(key, None)
        self._warnings.ask(key, None)

    async def _act(self, resource: Manifest, measurements: Measurements) -> tuple[Result, list[Refusal]]:
        """Carries out what is to be done until nothing is, and returns the last result and what was refused.

        So the status tells of the children as they are after the writes.
        """
        refusals: list[Refusal] = []
        for _ in range(MOST_ROUNDS):
            observed = replace(self._observe(resource, measurements), refusals=refusals)
            result = reconcile(observed, self._settings, datetime.now(UTC))
            await self._measurements.keep(key_of(resource)[0], result.effects.measurements)
            if refusals or not result.actions:
                break
            refusals = await self._writes.execute(resource, result.actions)
        return result, refusals

    def _observe(self, resource: Manifest, measurements: Measurements) -> Observed:
        key = namespace, name = key_of(resource)
        objects = self._view.objects
        return Observed(
            resource=resource,
            jobs=lambda label, value: objects.labelled("Job", namespace, label, value),
            pods=lambda label, value: objects.labelled("Pod", namespace, label, value),
            deployment=objects.get("Deployment", key),
            leader_worker_set=objects.get(LEADER_WORKER_SET, (namespace, group_name(name))),
            service=objects.get("Service", key),
            disruption_budget=objects.get("PodDisruptionBudget", key),
            accelerators=self._view.gpus.classes,
            several_nodes=LEADER_WORKER_SET in self._view.optional_kinds,
            progress=self._progress.by_pod(key),
            engine_memory=self._engine_logs.memory_of(key),
            measurements=measurements,
            warnings=self._warnings.by_subject(key),
            first_seen=lambda job: self._first_seen.of(job, datetime.now(UTC)),
            contested=lambda kind, difference: self._view.contests.is_contested(
                (kind, namespace, name), difference, time.monotonic()
            ),
        )
