"""How the operator's process ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import kopf
import pytest

from ftm_operator.__main__ import operate
from ftm_operator.runtime.cluster import REQUEST_SECONDS, Cluster, Listing
from ftm_operator.runtime.election.lease import CLUSTER_LEASE, CLUSTER_LEASE_NAMESPACE
from tests.unit.operator.objects import SETTINGS
from tests.unit.operator.runtime.election.api_server import Leases


class EmptyCluster(Leases):
    """Stands in for a cluster without models."""

    def seconds_to_write(self, _: str) -> float:
        return REQUEST_SECONDS

    async def kubernetes_version(self) -> str:
        return "v1.37.0"

    async def api_groups(self) -> frozenset[str]:
        return frozenset()

    async def serves(self, _: str) -> bool:
        return False

    async def list(self, kind: str, namespace: str | None = None, name: str | None = None) -> Listing:
        return await super().list(kind, namespace, name) if kind == "Lease" else Listing([], 1)


async def test_watches_that_end_end_the_operator_and_it_leaves_its_lease(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = EmptyCluster()

    @asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        yield cluster

    async def fails(**_: object) -> None:
        while not cluster.stored:
            await asyncio.sleep(0.01)
        raise RuntimeError("403: jobs is forbidden")

    monkeypatch.setattr(Cluster, "connect", connect)
    monkeypatch.setattr(kopf, "operator", fails)
    assert await operate(replace(SETTINGS, installation="ftm/ftm", pod="p", health_port=0)) == 1
    assert caplog.messages[-1] == "the operator ends, to be started anew: RuntimeError: 403: jobs is forbidden"
    assert cluster.holder(CLUSTER_LEASE_NAMESPACE, CLUSTER_LEASE) == "ftm/ftm"
