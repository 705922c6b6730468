"""Decides who may hold a Lease. Its fields mean what they mean to client-go. Does no I/O and knows no clock.

A Lease is live for leaseDurationSeconds after it was last seen to change, by the clock of whoever looks at it: two
machines' clocks are never compared. Its holder writes for RENEW_SECONDS after it last renewed it, so that it has
stopped before another may start. A holder that ends cleanly leaves the name of its installation: another pod of that
installation follows at once, and another installation after KEPT_SECONDS, so that an upgrade hands nothing over.

The elections of `kubernetes.aio.leaderelection` compare wall clocks, write local time as UTC and do not release; kopf's
peering pauses operators of equal priority all at once. So neither is used.
"""

from dataclasses import dataclass
from datetime import datetime

from ftm_operator.resources.metadata import MANAGED_BY, MANAGER, Manifest

NAMESPACE_LEASE = MANAGER
"""The Lease of a namespace, in it: its holder serves this namespace."""
CLUSTER_LEASE = f"{MANAGER}-cluster-wide"
CLUSTER_LEASE_NAMESPACE = "default"
"""The namespace that every installation for all namespaces keeps its Lease in, wherever it runs itself."""
LEASE_SECONDS = 15
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
"""The time between two renewals, or two looks at another's Lease."""
KEPT_SECONDS = 60


@dataclass(frozen=True)
class Identity:
    """The names of an operator's process."""

    installation: str
    """NAMESPACE/NAME of the operator's Deployment."""
    pod: str

    @property
    def holder(self) -> str:
        return f"{self.installation}/{self.pod}"

    @property
    def former_holders(self) -> tuple[str, str]:
        """Returns the holders that this process may follow at once: itself, and its installation without a pod."""
        return self.holder, self.installation


@dataclass(frozen=True)
class Sighting:
    """The spec of a Lease, and since when it is so, by the clock of whoever looks at it."""

    spec: Manifest
    since: float

    @property
    def holder(self) -> str:
        return self.spec.get("holderIdentity") or ""

    def is_live(self, now: float) -> bool:
        """Tells whether somebody holds the Lease."""
        return bool(self.holder) and now - self.since < (self.spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def other_holder(self, me: Identity, now: float) -> str | None:
        """Returns who holds the Lease, if it is live and this process may not take it."""
        return self.holder if self.is_live(now) and self.holder not in me.former_holders else None


def seen(before: Sighting | None, lease: Manifest | None, now: float) -> Sighting:
    """Returns what is known once the Lease, None where there is none, has been read."""
    spec = (lease or {}).get("spec") or {}
    return before if before is not None and before.spec == spec else Sighting(spec, now)


def claimed(lease: Manifest | None, namespace: str, name: str, me: Identity, at: datetime) -> Manifest:
    """Returns the Lease as its holder writes it, to acquire or to renew it."""
    spec = (lease or {}).get("spec") or {}
    is_mine = spec.get("holderIdentity") == me.holder
    transitions = spec.get("leaseTransitions") or 0
    acquired = spec.get("acquireTime") if is_mine else None
    ours = {
        "holderIdentity": me.holder,
        "leaseDurationSeconds": LEASE_SECONDS,
        "acquireTime": acquired or _micro_time(at),
        "renewTime": _micro_time(at),
        "leaseTransitions": transitions if is_mine or not spec else transitions + 1,
    }
    metadata = (lease or {}).get("metadata") or {
        "name": name,
        "namespace": namespace,
        "labels": {MANAGED_BY: MANAGER},
    }
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {**spec, **ours},
    }


def released(lease: Manifest, me: Identity, at: datetime) -> Manifest:
    """Returns the Lease as its holder leaves it."""
    left = {"holderIdentity": me.installation, "leaseDurationSeconds": KEPT_SECONDS, "renewTime": _micro_time(at)}
    return {**lease, "spec": {**lease["spec"], **left}}


def _micro_time(at: datetime) -> str:
    """Returns a time in UTC as the API server writes a MicroTime."""
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
