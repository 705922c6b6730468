"""Writes what a pass decided: children, the status, and Events. The answers go into the cache."""

import logging
from datetime import UTC, datetime

from ftm_operator.api.v1alpha1 import API_VERSION, KIND
from ftm_operator.reconcile.passes import Apply, Delete
from ftm_operator.resources.event import Notice, event
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.cluster import Cluster
from ftm_operator.runtime.cluster_view import ClusterView
from ftm_operator.runtime.object_cache import key_of

log = logging.getLogger(__name__)


class NameTaken(Exception):
    """A child's name is held by an object that is not ours; the next pass observes it."""


class Writes:
    """The writes of passes, by one field manager."""

    def __init__(self, cluster: Cluster, view: ClusterView) -> None:
        self._cluster = cluster
        self._view = view

    async def execute(self, action: Apply | Delete) -> None:
        """Applies or deletes one child. Raises NameTaken if a child that is to be new is there already."""
        manifest = action.manifest
        kind, key = manifest["kind"], key_of(manifest)
        match action:
            case Delete():
                await self._cluster.delete(manifest)
                self._view.objects.remove(kind, key)
                log.info("%s/%s: deleted %s", *key, kind)
            case Apply(why="absent") if present := await self._cluster.get(kind, *key):
                self._adopt(present, manifest)
                raise NameTaken
            case Apply(why=why):
                self._view.objects.put(kind, await self._cluster.apply(manifest))
                log.info("%s/%s: applied %s: %s", *key, kind, why)

    def _adopt(self, present: Manifest, wanted: Manifest) -> None:
        """Keeps an object that no watch told of: our own from before, or somebody else's."""
        owners = {owner["uid"] for owner in present["metadata"].get("ownerReferences") or []}
        ours = {owner["uid"] for owner in wanted["metadata"]["ownerReferences"]}
        if owners & ours or wanted["kind"] == "Job":
            self._view.objects.put(wanted["kind"], present)
        else:
            self._view.foreign[wanted["kind"], key_of(wanted)] = present

    async def write_status(self, resource: Manifest, status: Manifest) -> None:
        """Applies a model's status."""
        metadata = resource["metadata"]
        identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": identity, "status": status}
        self._view.objects.put(KIND, await self._cluster.apply(body, "status"))

    async def post(self, resource: Manifest, notice: Notice) -> None:
        """Logs a notice and posts it as an Event of the model."""
        level = logging.WARNING if notice.type == "Warning" else logging.INFO
        log.log(level, "%s/%s: %s: %s", *key_of(resource), notice.reason, notice.message)
        await self._cluster.create_event(event(resource, notice, datetime.now(UTC)))
