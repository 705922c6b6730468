"""Runs one pass over one FineTunedModel: observe, reconcile, write.

Holds no logic of its own: `reconcile` decides what is to be done.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.observe.first_seen import FirstSeen
from ftm_operator.planning.feedback.measurements import Measurements
from ftm_operator.reconcile.passes import Observed, Result
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.gateway import http_route, inference_model_rewrite, inference_pool
from ftm_operator.resources.metadata import NAME, Manifest
from ftm_operator.resources.scaling.scaler import SCALERS
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.serving.leader_worker_set import group_name
from ftm_operator.resources.serving.wanted_config_map import config_map_name, hash_in
from ftm_operator.resources.versions import controller_revision
from ftm_operator.resources.versions.canary import canary_name, canary_names
from ftm_operator.runtime.cluster import Cluster
from ftm_operator.runtime.logs.adapter_reports import AdapterReports
from ftm_operator.runtime.logs.engine_logs import EngineLogs
from ftm_operator.runtime.logs.served_reports import ServedReports
from ftm_operator.runtime.logs.step_progress import StepProgress
from ftm_operator.runtime.measurement_store import MeasurementStore
from ftm_operator.runtime.passes.model_changes import ModelChanges
from ftm_operator.runtime.passes.writes import ChildrenRefused, Writes
from ftm_operator.runtime.prometheus import PrometheusFigures
from ftm_operator.runtime.resource_queue import ResourceKey, ResourceQueue
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.object_cache import Key, key_of
from ftm_operator.runtime.warnings import Warnings
from ftm_operator.settings import Settings

SHORTEST_DELAY_SECONDS = 1.0
"""The shortest time after which a pass asks for another one."""


class ModelPass:
    """A pass over the model that a key names, with all that it reads and writes."""

    def __init__(
        self,
        cluster: Cluster,
        view: ClusterView,
        queue: ResourceQueue,
        settings: Settings,
        adapter_reports: AdapterReports,
    ) -> None:
        self._view = view
        self._adapter_reports = adapter_reports
        self._served_reports = ServedReports(cluster)
        self._changes = ModelChanges()
        self._queue = queue
        self._settings = settings
        self._writes = Writes(cluster, view)
        self._progress = StepProgress(cluster)
        self._engine_logs = EngineLogs(cluster)
        self._figures = PrometheusFigures()
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
            self._tell_adapters(key)
            return
        await read_held(self._adapter_reports, self._view, key)
        await self._served_reports.read(key, pods_of(self._view, key))
        await self._progress.read(key)
        await self._engine_logs.read(key)
        await self._figures.read(key)
        await self._warnings.read(key)
        measurements = await self._measurements.load(key[0])
        result, refusals = await self._writes.carry_out(
            resource, lambda refused: self._decide(resource, measurements, refused)
        )
        effects = result.effects
        if result.status is not None:
            await self._writes.write_status(resource, result.status)
        for notice in result.notices:
            await self._writes.post(resource, notice)
        self._tell_adapters(key)
        if refusals:
            raise ChildrenRefused(refusals)
        own = ResourceKey(KIND, *key)
        if effects.awaited_build:
            self._queue.add_with(effects.awaited_build, own)
        if result.retry_after is not None:
            self._queue.add_after(own, max(result.retry_after, SHORTEST_DELAY_SECONDS))
        progress_due = self._progress.ask(key, effects.progress_pod)
        log_due = self._engine_logs.ask(key, effects.engine_log)
        held_due = self._adapter_reports.seconds_to_next(key, hash_in(wanted_config_map_of(self._view, key)))
        served_due = self._served_reports.seconds_to_next(key)
        warnings_due = self._warnings.ask(key, effects.unexplained)
        figures_due = self._figures.ask(key, effects.canary_question)
        for seconds in (progress_due, log_due, held_due, served_due, warnings_due, figures_due):
            if seconds is not None:
                self._queue.add_after(own, seconds)

    def leave(self, key: Key) -> None:
        """Forgets what passes remember, since another operator serves the model and may keep other measurements."""
        self.forget(key)
        self._measurements.forget(key[0])

    def forget(self, key: Key) -> None:
        """Forgets what earlier passes remember of the model."""
        for name in {key[1], group_name(key[1]), *(canary for _, canary in canary_names(key[1]))}:
            self._view.contests.forget((key[0], name))
        self._progress.ask(key, None)
        self._engine_logs.ask(key, None)
        self._figures.ask(key, None)
        self._warnings.ask(key, None)
        self._adapter_reports.forget(key)
        self._served_reports.forget(key)

    def _tell_adapters(self, key: Key) -> None:
        """Queues the adapters that this pass, or what it was run for, concerns."""
        objects = self._view.objects
        model, adapters = objects.get(KIND, key), objects.adapters_of(key)
        held = self._adapter_reports.held(key)
        for adapter in self._changes.concerned(key, model, pods_of(self._view, key), held, adapters):
            self._queue.add_adapter(adapter)

    async def _decide(self, resource: Manifest, measurements: Measurements, refused: Sequence[Refusal]) -> Result:
        observed = replace(self._observe(resource, measurements), refusals=refused)
        result = reconcile(observed, self._settings, datetime.now(UTC))
        await self._measurements.keep(key_of(resource)[0], result.effects.measurements)
        return result

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
            scalers=[each for kind in SCALERS for each in objects.labelled(kind, namespace, NAME, name)],
            http_route=objects.get(http_route.KIND, key),
            inference_pool=objects.get(inference_pool.KIND, key),
            inference_model_rewrite=objects.get(inference_model_rewrite.KIND, key),
            served_apis=self._view.api_groups | self._view.optional_kinds,
            kubernetes=self._view.kubernetes,
            accelerators=self._view.gpus.classes,
            several_nodes=LEADER_WORKER_SET in self._view.optional_kinds,
            progress=self._progress.by_pod(key),
            engine_memory=self._engine_logs.memory_of(key),
            canary_figures=self._figures.of(key),
            measurements=measurements,
            adapters=objects.adapters_of(key),
            revisions=objects.labelled(controller_revision.KIND, namespace, NAME, name),
            canaries=[each for kind, canary in canary_names(name) if (each := objects.get(kind, (namespace, canary)))],
            canary_service=objects.get("Service", (namespace, canary_name(name))),
            wanted_config_map=wanted_config_map_of(self._view, key),
            held=self._adapter_reports.held(key),
            served=self._served_reports.said(key),
            warnings=self._warnings.by_subject(key),
            first_seen=lambda job: self._first_seen.of(job, datetime.now(UTC)),
            contested=lambda kind, child, difference: self._view.contests.is_contested(
                (kind, namespace, child), difference, time.monotonic()
            ),
        )


async def read_held(reports: AdapterReports, view: ClusterView, key: Key) -> None:
    """Reads the logs that tell which adapters a model's engines hold, as far as they are due."""
    adapters, wanted = len(view.objects.adapters_of(key)), hash_in(wanted_config_map_of(view, key))
    await reports.read(key, pods_of(view, key), wanted, adapters)


def pods_of(view: ClusterView, key: Key) -> list[Manifest]:
    """Returns the pods of a model."""
    return view.objects.labelled("Pod", key[0], NAME, key[1])


def wanted_config_map_of(view: ClusterView, key: Key) -> Manifest | None:
    """Returns the ConfigMap of the adapters that a model's engines are to hold."""
    return view.objects.get("ConfigMap", (key[0], config_map_name(key[1])))
