"""Writes what a pass decided: children, the status, and Events. The answers go into the cache."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe import drift
from ftm_operator.observe.replica_owners import KEEPER
from ftm_operator.reconcile.passes import Action, Apply, Delete, HandOver, Result, Touch
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.event import Notice, event
from ftm_operator.resources.metadata import (
    ARTIFACT,
    INSPECTION,
    SPEC_HASH,
    WANTED_ADAPTERS,
    Manifest,
    is_orphan,
    owner_label,
)
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.object_cache import key_of

MOST_ROUNDS = 4
"""Rounds of writes in a pass; the next pass goes on."""
MOST_UNDECLARED = 20
"""Fields that an older CRD may lack."""
_UNDECLARED = re.compile(r"(\.status[^ ,;]*): field not declared in schema")
_PART = re.compile(r"\.([A-Za-z0-9_-]+)|\[[^]]*\]")
log = logging.getLogger(__name__)


class AlreadyThere(Exception):
    """A child is there, or has changed, and no watch had told of it yet; the next pass observes it."""


class NameTaken(Exception):
    """A child's name is held by an object that is not ours."""


class ChildrenRefused(Exception):
    """The API server did not take some children; the status says so, and they are applied again later."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("; ".join(f"{refusal.kind} {refusal.name}: {refusal.message}" for refusal in refusals))


class Writes:
    """The writes of passes, by one field manager."""

    def __init__(self, cluster: Cluster, view: ClusterView) -> None:
        self._cluster = cluster
        self._view = view

    async def carry_out(
        self, resource: Manifest, decide: Callable[[Sequence[Refusal]], Awaitable[Result]]
    ) -> tuple[Result, list[Refusal]]:
        """Writes what `decide` returns until nothing is to be done, and returns its last result and what was refused.

        So the status tells of the children as they are after the writes. `decide` is given what was refused before.
        """
        refusals: list[Refusal] = []
        for _ in range(MOST_ROUNDS):
            result = await decide(refusals)
            if refusals or not result.actions:
                break
            refusals = await self.execute(resource, result.actions)
        return result, refusals

    async def execute(self, resource: Manifest, actions: Sequence[Action]) -> list[Refusal]:
        """Applies and deletes children, and returns those that the API server refused to take.

        Raises AlreadyThere if a child that is to be new is there, and ApiError if the API server does not answer.
        """
        refusals: list[Refusal] = []
        for action in actions:
            child = action.manifest["kind"], action.manifest["metadata"]["name"]
            try:
                await self._execute(resource, action)
            except NameTaken:
                refusals.append(Refusal(*child))
            except ApiError as error:
                if not error.status or not isinstance(action, Apply):
                    raise
                refusals.append(Refusal(*child, error.status, error.message))
        return refusals

    async def _execute(self, resource: Manifest, action: Action) -> None:
        manifest = action.manifest
        kind, key = manifest["kind"], key_of(manifest)
        match action:
            case Delete():
                await self._cluster.delete(manifest)
                going = await self._cluster.get(kind, *key) if manifest["metadata"].get("finalizers") else None
                self._view.objects.put(kind, going) if going else self._view.objects.remove(kind, key)
                log.info("%s/%s: deleted %s", *key, kind)
            case Touch(wanted_hash=wanted_hash):
                if touched := await self._cluster.annotate(manifest, {WANTED_ADAPTERS: wanted_hash}):
                    self._view.objects.put(kind, touched)
            case HandOver():
                await self._hand_over(manifest)
            case Apply(why=drift.ABSENT) if present := await self._cluster.get(kind, *key):
                if not _may_be_adopted(present, manifest):
                    raise NameTaken
                self._view.objects.put(kind, present)
                raise AlreadyThere
            case Apply(why=why):
                applied = await self._cluster.apply(manifest)
                self._view.objects.put(kind, applied)
                log.info("%s/%s: applied %s: %s", *key, kind, why)
                for contested in self._contested(manifest, applied, why):
                    await self.post(resource, contested)

    async def _hand_over(self, manifest: Manifest) -> None:
        """Raises AlreadyThere if the number of replicas has changed since it was observed."""
        kind, key = manifest["kind"], key_of(manifest)
        try:
            self._view.objects.put(kind, await self._cluster.apply(manifest, manager=KEEPER))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            if present := await self._cluster.get(kind, *key):
                self._view.objects.put(kind, present)
            raise AlreadyThere from error
        log.info("%s/%s: the number of replicas of %s is left to others", *key, kind)

    def _contested(self, wanted: Manifest, applied: Manifest, why: str) -> list[Notice]:
        """Returns what is to be said of fields that an apply did not change, or that another manager takes back."""
        spec_hash = wanted["metadata"].get("annotations", {}).get(SPEC_HASH)
        if spec_hash is None:
            return []
        kind, key = wanted["kind"], key_of(wanted)
        left = drift.differences(wanted, applied)
        contested = self._view.contests.applied((kind, *key), spec_hash, why, left, time.monotonic())
        return [
            Notice(
                "Warning", OperatorReason.CONTESTED, f"{kind} {key[1]} {each}: another manager sets it, it is left so"
            )
            for each in contested
        ]

    async def write_status(self, resource: Manifest, status: Manifest) -> None:
        """Applies a resource's status, without the fields that an older CRD in the cluster lacks."""
        metadata = resource["metadata"]
        identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
        kind = resource["kind"]
        body = {"apiVersion": resource["apiVersion"], "kind": kind, "metadata": identity, "status": status}
        for _ in range(MOST_UNDECLARED):
            try:
                self._view.objects.put(kind, await self._cluster.apply(body, "status"))
                return
            except ApiError as error:
                fields = _UNDECLARED.findall(error.message)
                if not fields:
                    raise
                log.warning("%s/%s: %s; apply the CRDs of the operator's version", *key_of(resource), error)
                for field in fields:
                    _remove(body, field)
        log.error("%s/%s: the status is not written: apply the CRDs of the operator's version", *key_of(resource))

    async def post(self, resource: Manifest, notice: Notice) -> None:
        """Logs a notice and posts it as an Event of the resource."""
        level = logging.WARNING if notice.type == "Warning" else logging.INFO
        log.log(level, "%s/%s: %s: %s", *key_of(resource), notice.reason, notice.message)
        await self._cluster.create_event(event(resource, notice, datetime.now(UTC)))


def _may_be_adopted(present: Manifest, wanted: Manifest) -> bool:
    """Tells whether an object is this resource's own, an orphan, or a Job that does what the wanted one would."""
    owners = {owner["uid"] for owner in present["metadata"].get("ownerReferences") or []}
    if owners & {owner["uid"] for owner in wanted["metadata"]["ownerReferences"]}:
        return True
    labels, ours = present["metadata"].get("labels") or {}, wanted["metadata"]["labels"]
    if wanted["kind"] == "Job":
        return all(labels.get(label) == ours.get(label) for label in (ARTIFACT, INSPECTION))
    (owner,) = wanted["metadata"]["ownerReferences"]
    return is_orphan(present, owner_label(owner["kind"]), owner["name"])


def _remove(body: Manifest, path: str) -> None:
    """Removes the field of this path, as .status.facts.base.novel; of a list's items, from each."""
    *parents, last = [name for name in (match[1] for match in _PART.finditer(path)) if name]
    holders: list[Any] = [body]
    for name in parents:
        found = [holder[name] for holder in holders if isinstance(holder, dict) and name in holder]
        holders = [each for item in found for each in (item if isinstance(item, list) else [item])]
    for holder in holders:
        if isinstance(holder, dict):
            holder.pop(last, None)
