"""Acquires and renews the Leases of what an operator serves: namespaces, or the whole cluster.

A namespace's own Lease comes before the cluster's: an installation that serves all namespaces leaves out those whose
Lease another holds, and holds none of a namespace itself. It writes only while it has read these Leases within
RENEW_SECONDS. An operator that acquires the Lease of a namespace while another holds that of the cluster waits for
LEASE_SECONDS, so that the other has seen it.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol

from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.election.lease import (
    CLUSTER_LEASE,
    CLUSTER_LEASE_NAMESPACE,
    LEASE_SECONDS,
    NAMESPACE_LEASE,
    RENEW_SECONDS,
    Identity,
    Sighting,
    claimed,
    released,
    seen,
)

Clock = Callable[[], float]
"""Seconds that never go back."""


class Scope(Protocol):
    """Models that are served under one Lease."""

    name: str

    @property
    def is_held(self) -> bool:
        """Tells whether this operator serves the scope, but for what others hold."""

    async def attempt(self) -> None:
        """Acquires the Lease or renews it, if nobody else holds it. Raises ApiError."""

    async def release(self) -> None:
        """Leaves the Lease to the installation's other pods. Raises ApiError."""

    def seconds_left(self, namespace: str) -> float:
        """Returns for how long this operator may write in the namespace; 0 or less if it may not."""

    def held_by_others(self) -> dict[str, str]:
        """Returns who holds what this operator would serve, by the names of scopes."""


class HeldLease:
    """One Lease, held by this process or waited for."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, me: Identity, clock: Clock) -> None:
        self._cluster = cluster
        self._place = namespace, name
        self._me = me
        self._clock = clock
        self._written: Manifest | None = None
        self._renewed: float | None = None
        self._sighting: Sighting | None = None
        self.acquisitions = 0
        self.acquired = 0.0
        """The time when it was last acquired."""

    @property
    def other_holder(self) -> str | None:
        return self._sighting.other_holder(self._me, self._clock()) if self._sighting else None

    def seconds_left(self) -> float:
        """Returns for how long its holder may write; 0 if this process does not hold it."""
        return 0.0 if self._renewed is None else max(0.0, self._renewed + RENEW_SECONDS - self._clock())

    async def attempt(self) -> None:
        """Acquires or renews it, unless another holds it. Raises ApiError."""
        lease = self._written or await self._cluster.get("Lease", *self._place)
        self._sighting = seen(self._sighting, lease, self._clock())
        if self.other_holder:
            self._renewed = None
            return
        was_held, asked = self.seconds_left() > 0, self._clock()
        if written := await self._write(claimed(lease, *self._place, self._me, datetime.now(UTC))):
            self._renewed = asked
            self._sighting = seen(self._sighting, written, self._clock())
            if not was_held:
                self.acquisitions += 1
                self.acquired = self._clock()

    async def release(self) -> None:
        """Leaves it to the installation, if it is held. Raises ApiError."""
        if self.seconds_left() > 0:
            self._renewed = None
            lease = self._written or await self._cluster.get("Lease", *self._place)
            if lease and lease["spec"].get("holderIdentity") == self._me.holder:
                await self._write(released(lease, self._me, datetime.now(UTC)))

    async def _write(self, lease: Manifest) -> Manifest | None:
        """Returns the Lease as written; None if another has written or deleted it, or if its namespace is gone."""
        self._written = None
        try:
            self._written = await self._cluster.write_lease(lease)
        except ApiError as error:
            if error.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise
        return self._written


class NamespaceScope:
    """One namespace, by its own Lease."""

    def __init__(self, cluster: Cluster, namespace: str, me: Identity, clock: Clock = time.monotonic) -> None:
        self.name = namespace
        self._cluster = cluster
        self._me = me
        self._clock = clock
        self._lease = HeldLease(cluster, namespace, NAMESPACE_LEASE, me, clock)
        self._cluster_lease: Sighting | None = None
        self._freed = 0
        """The acquisition of the Lease since which nobody else writes here."""

    @property
    def is_held(self) -> bool:
        return self._lease.seconds_left() > 0 and self._freed == self._lease.acquisitions

    async def attempt(self) -> None:
        await self._lease.attempt()
        if self._lease.seconds_left() > 0 and not self.is_held:
            lease = await self._cluster.get("Lease", CLUSTER_LEASE_NAMESPACE, CLUSTER_LEASE)
            now = self._clock()
            self._cluster_lease = seen(self._cluster_lease, lease, now)
            has_waited = now - self._lease.acquired >= LEASE_SECONDS
            if has_waited or not self._cluster_lease.other_holder(self._me, now):
                self._freed = self._lease.acquisitions

    async def release(self) -> None:
        await self._lease.release()

    def seconds_left(self, namespace: str) -> float:
        return self._lease.seconds_left() if namespace == self.name and self.is_held else 0.0

    def held_by_others(self) -> dict[str, str]:
        holder = self._lease.other_holder
        if not holder and not self.is_held and self._cluster_lease:
            holder = self._cluster_lease.other_holder(self._me, self._clock())
        return {self.name: holder} if holder else {}


class ClusterScope:
    """All namespaces but those whose own Lease another holds."""

    name = "all namespaces"

    def __init__(self, cluster: Cluster, me: Identity, clock: Clock = time.monotonic) -> None:
        self._cluster = cluster
        self._me = me
        self._clock = clock
        self._lease = HeldLease(cluster, CLUSTER_LEASE_NAMESPACE, CLUSTER_LEASE, me, clock)
        self._namespaces: dict[str, Sighting] = {}
        self._listed = 0.0
        """When the Leases of namespaces were last read: one that has expired since may have been renewed since."""
        self._listed_for = 0
        """The acquisition of the cluster's Lease since which those of namespaces have been read."""

    async def attempt(self) -> None:
        await self._lease.attempt()
        if self._lease.seconds_left() > 0:
            asked = self._clock()
            listing = await self._cluster.list("Lease", name=NAMESPACE_LEASE)
            found = {lease["metadata"]["namespace"]: lease for lease in listing.items}
            now, before = self._clock(), self._namespaces
            self._namespaces = {name: seen(before.get(name), lease, now) for name, lease in found.items()}
            self._listed, self._listed_for = asked, self._lease.acquisitions

    async def release(self) -> None:
        await self._lease.release()

    @property
    def is_held(self) -> bool:
        return self._lease.seconds_left() > 0 and self._listed_for == self._lease.acquisitions

    def seconds_left(self, namespace: str) -> float:
        if not self.is_held or namespace in self.held_by_others():
            return 0.0
        return min(self._lease.seconds_left(), self._listed + RENEW_SECONDS - self._clock())

    def held_by_others(self) -> dict[str, str]:
        if holder := self._lease.other_holder:
            return {self.name: holder}
        holders = {name: lease.other_holder(self._me, self._listed) for name, lease in self._namespaces.items()}
        return {name: holder for name, holder in holders.items() if holder}


def scopes_of(cluster: Cluster, namespaces: tuple[str, ...], me: Identity) -> list[Scope]:
    """Returns the scopes of an installation that serves these namespaces; all if none is named."""
    return [NamespaceScope(cluster, name, me) for name in namespaces] or [ClusterScope(cluster, me)]
