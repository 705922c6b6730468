"""Stands in for the API server's Leases, and for time: requests of several operators, one after the other."""

import copy
from dataclasses import dataclass, field
from typing import Any, cast

from ftm_operator.runtime.cluster import ApiError, Cluster, Listing
from ftm_operator.runtime.election.lease import Identity
from ftm_operator.runtime.election.scopes import ClusterScope, NamespaceScope

Manifest = dict[str, Any]


@dataclass
class Leases:
    """The Leases of one API server, versioned as it does."""

    stored: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    version: int = 0
    writes: int = 0
    answers: int | None = None
    """How many more requests are answered; None: all."""

    async def get(self, _: str, namespace: str, name: str) -> Manifest | None:
        self._answer("GET")
        return copy.deepcopy(self.stored.get((namespace, name)))

    async def list(self, _: str, namespace: str | None = None, name: str | None = None) -> Listing:
        assert namespace is None
        self._answer("GET")
        return Listing([copy.deepcopy(each) for (_, kept), each in self.stored.items() if kept == name], self.version)

    async def write_lease(self, lease: Manifest) -> Manifest:
        self._answer("PUT")
        key = lease["metadata"]["namespace"], lease["metadata"]["name"]
        stored, version = self.stored.get(key), lease["metadata"].get("resourceVersion")
        if stored is None and version is not None:
            raise ApiError("PUT lease", 404, "not found")
        if stored is not None and version != stored["metadata"]["resourceVersion"]:
            raise ApiError("PUT lease", 409, "the object has been modified")
        self.version += 1
        self.writes += 1
        written = copy.deepcopy(lease)
        written["metadata"]["resourceVersion"] = str(self.version)
        self.stored[key] = written
        return copy.deepcopy(written)

    def holder(self, namespace: str, name: str) -> str:
        return str(self.stored[namespace, name]["spec"]["holderIdentity"])

    def _answer(self, verb: str) -> None:
        if self.answers == 0:
            raise ApiError(f"{verb} lease", 0, "no answer")
        if self.answers is not None:
            self.answers -= 1


@dataclass
class Time:
    """A clock that tests move."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def me(pod: str, installation: str = "ftm-system/ftm-operator") -> Identity:
    return Identity(installation, pod)


def of_namespace(leases: Leases, time: Time, identity: Identity, namespace: str = "team-a") -> NamespaceScope:
    return NamespaceScope(cast(Cluster, leases), namespace, identity, time)


def of_cluster(leases: Leases, time: Time, identity: Identity) -> ClusterScope:
    return ClusterScope(cast(Cluster, leases), identity, time)
