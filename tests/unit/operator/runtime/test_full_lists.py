"""Full lists repair the cache, and the first one is tried until it succeeds."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from ftm_operator.runtime.cluster import ApiError, Cluster, Listing
from ftm_operator.runtime.health import Health
from ftm_operator.runtime.resource_queue import ResourceKey, ResourceQueue
from ftm_operator.runtime.view.cluster_view import ClusterView
from ftm_operator.runtime.view.full_lists import FIRST_LIST_LONGEST_WAIT, FullLists
from ftm_operator.runtime.view.gpu_inventory import GpuInventory
from tests.unit.operator.objects import SETTINGS, resource

MODEL = resource() | {"kind": "FineTunedModel"}


@dataclass
class Lists:
    """Stands in for the cluster: fails the first lists, then lists one model."""

    failures: int = 0
    listed: list[str] = field(default_factory=list)

    async def kubernetes_version(self) -> str:
        return "v1.37.0"

    async def api_groups(self) -> frozenset[str]:
        if self.failures:
            self.failures -= 1
            raise ApiError("GET /apis/", 503, "not ready")
        return frozenset(("leaderworkerset.x-k8s.io",))

    async def serves(self, kind: str) -> bool:
        assert kind == "LeaderWorkerSet", "the cluster has no group of the other kinds"
        return False

    async def list(self, kind: str, _: str | None = None) -> Listing:
        self.listed.append(kind)
        return Listing([MODEL] if kind == "FineTunedModel" else [], 1000)


def lists(cluster: Lists, queue: ResourceQueue, health: Health) -> FullLists:
    return FullLists(cast(Cluster, cluster), ClusterView(GpuInventory()), queue, SETTINGS, health)


async def test_the_first_list_is_tried_until_it_succeeds_with_longer_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    queue, health = ResourceQueue(), Health(300)
    await lists(Lists(failures=7), queue, health).first()
    assert waits == [1, 2, 4, 8, 16, FIRST_LIST_LONGEST_WAIT, FIRST_LIST_LONGEST_WAIT]
    assert caplog.messages[0] == ("the first full list failed: GET /apis/: 503 not ready; again in 1 s")
    assert health.resynced


async def test_a_list_queues_every_model_and_leaves_out_kinds_that_the_cluster_lacks() -> None:
    cluster, queue = Lists(), ResourceQueue()
    await lists(cluster, queue, Health(300)).list_everything()
    assert await queue.take() == ResourceKey("FineTunedModel", "team-a", "support-bot")
    assert cluster.listed == [
        "FineTunedModel",
        "Job",
        "Deployment",
        "ControllerRevision",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "ConfigMap",
        "Pod",
    ]
