"""Runs one pass over one FineTunedAdapter: observe, reconcile, write.

Holds no logic of its own: `reconcile.adapters` decides what is to be done.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ftm_operator.api.fine_tuned_adapter import KIND, model_of
from ftm_operator.api.v1alpha1 import KIND as MODEL_KIND
from ftm_operator.observe.first_seen import FirstSeen
from ftm_operator.reconcile.adapters.observed import ObservedAdapter
from ftm_operator.reconcile.adapters.reconcile_adapter import reconcile_adapter
from ftm_operator.reconcile.passes import Result
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.cluster import Cluster
from ftm_operator.runtime.logs.adapter_reports import AdapterReports
from ftm_operator.runtime.passes.model_pass import SHORTEST_DELAY_SECONDS, read_held
from ftm_operator.runtime.passes.writes import ChildrenRefused, Writes
from ftm_operator.runtime.resource_queue import ResourceKey, ResourceQueue
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.object_cache import Key, key_of
from ftm_operator.runtime.warnings import Warnings
from ftm_operator.settings import Settings

TOLD = ("artifact", "facts", "servedName", "baseDigest", "engine", "serving")
"""The fields of the status that its model's pass reads."""


class AdapterPass:
    """A pass over the adapter that a key names, with all that it reads and writes."""

    def __init__(
        self,
        cluster: Cluster,
        view: ClusterView,
        queue: ResourceQueue,
        settings: Settings,
        adapter_reports: AdapterReports,
    ) -> None:
        self._view = view
        self._queue = queue
        self._settings = settings
        self._adapter_reports = adapter_reports
        self._writes = Writes(cluster, view)
        self._warnings = Warnings(cluster)
        self._first_seen = FirstSeen()

    async def run(self, key: Key) -> None:
        """Raises ApiError if a request fails, and AlreadyThere if another pass must follow at once.

        Raises ChildrenRefused once the status says which children the API server did not take.
        """
        resource = self._view.objects.get(KIND, key)
        if resource is None:
            self.leave(key)
            return
        model = key[0], model_of(resource)
        if not self._adapter_reports.is_known(model):
            await read_held(self._adapter_reports, self._view, model)
        await self._warnings.read(key)
        result, refusals = await self._writes.carry_out(resource, lambda refused: self._decide(resource, refused))
        if result.status is not None:
            await self._writes.write_status(resource, result.status)
            if _told(resource, resource.get("status") or {}) != _told(resource, result.status):
                self._queue.add_model(model)
        for notice in result.notices:
            await self._writes.post(resource, notice)
        if refusals:
            raise ChildrenRefused(refusals)
        own = ResourceKey(KIND, *key)
        if result.retry_after is not None:
            self._queue.add_after(own, max(result.retry_after, SHORTEST_DELAY_SECONDS))
        seconds = self._warnings.ask(key, result.effects.unexplained)
        if seconds is not None:
            self._queue.add_after(own, seconds)

    def leave(self, key: Key) -> None:
        """Forgets what passes remember of the adapter."""
        self._warnings.ask(key, None)

    async def _decide(self, resource: Manifest, refused: Sequence[Refusal]) -> Result:
        observed = replace(self._observe(resource), refusals=refused)
        return reconcile_adapter(observed, self._settings, datetime.now(UTC))

    def _observe(self, resource: Manifest) -> ObservedAdapter:
        key = key_of(resource)
        namespace = key[0]
        model, objects = (namespace, model_of(resource)), self._view.objects
        return ObservedAdapter(
            resource=resource,
            model=objects.get(MODEL_KIND, model),
            rivals=objects.rivals_of(resource),
            jobs=lambda label, value: objects.labelled("Job", namespace, label, value),
            pods=lambda label, value: objects.labelled("Pod", namespace, label, value),
            held=self._adapter_reports.held(model),
            warnings=self._warnings.by_subject(key),
            first_seen=lambda job: self._first_seen.of(job, datetime.now(UTC)),
        )


def _told(resource: Manifest, status: Manifest) -> Manifest:
    """Returns what the model's pass reads; of the model's own adapters it repeats the conditions."""
    fields = (*TOLD, "conditions") if resource["metadata"].get("ownerReferences") else TOLD
    return {field: status.get(field) for field in fields}
