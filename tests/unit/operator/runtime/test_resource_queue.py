"""A change queues the resources that it concerns, and no others."""

import asyncio
from typing import Any

from ftm_operator.resources.metadata import ADAPTER, ARTIFACT, NAME
from ftm_operator.runtime.resource_queue import ResourceKey, ResourceQueue


def model(namespace: str, name: str) -> ResourceKey:
    return ResourceKey("FineTunedModel", namespace, name)


def adapter(namespace: str, name: str) -> ResourceKey:
    return ResourceKey("FineTunedAdapter", namespace, name)


def job(**labels: str) -> dict[str, Any]:
    return {"kind": "Job", "metadata": {"namespace": "a", "name": "job-1", "labels": labels}}


MERGE = job(**{NAME: "first", ARTIFACT: "merge-1"})


async def queued(queue: ResourceQueue) -> set[ResourceKey]:
    keys = set()
    while True:
        try:
            keys.add(await asyncio.wait_for(queue.take(), 0.02))
        except TimeoutError:
            return keys


async def test_a_model_is_queued_by_its_own_change() -> None:
    queue = ResourceQueue()
    queue.add_concerned({"kind": "FineTunedModel", "metadata": {"namespace": "a", "name": "first"}})
    assert await queued(queue) == {model("a", "first")}


async def test_an_adapter_queues_itself_and_its_model() -> None:
    queue = ResourceQueue()
    metadata = {"namespace": "a", "name": "billing", "labels": {NAME: "another"}}
    queue.add_concerned({"kind": "FineTunedAdapter", "metadata": metadata, "spec": {"model": "shared"}})
    assert await queued(queue) == {adapter("a", "billing"), model("a", "shared")}


async def test_a_job_of_an_adapter_queues_no_model_of_its_name() -> None:
    queue = ResourceQueue()
    queue.add_concerned(job(**{ADAPTER: "billing"}))
    assert await queued(queue) == {adapter("a", "billing")}


async def test_a_child_queues_its_owner_and_who_waits_for_its_artifact_once() -> None:
    queue = ResourceQueue()
    queue.add_with("merge-1", model("a", "second"))
    queue.add_with("merge-1", model("b", "elsewhere"))
    queue.add_with("merge-2", model("a", "third"))
    queue.add_concerned(MERGE)
    keys = await queued(queue)
    assert keys == {model("a", "first"), model("a", "second")}
    for key in keys:
        queue.done(key)
    queue.add_concerned(MERGE)
    assert await queued(queue) == {model("a", "first")}
