"""A change queues the models that it concerns, and no others."""

import asyncio

from ftm_operator.resources.metadata import ARTIFACT, NAME
from ftm_operator.runtime.model_queue import ModelQueue
from ftm_operator.runtime.view.object_cache import Key

JOB = {
    "kind": "Job",
    "metadata": {"namespace": "a", "name": "merge-1", "labels": {NAME: "first", ARTIFACT: "merge-1"}},
}


async def queued(queue: ModelQueue) -> set[Key]:
    keys = set()
    while True:
        try:
            keys.add(await asyncio.wait_for(queue.take(), 0.02))
        except TimeoutError:
            return keys


async def test_a_model_is_queued_by_its_own_change() -> None:
    queue = ModelQueue()
    queue.add_concerned({"kind": "FineTunedModel", "metadata": {"namespace": "a", "name": "first"}})
    assert await queued(queue) == {("a", "first")}


async def test_a_child_queues_its_owner_and_who_waits_for_its_artifact_once() -> None:
    queue = ModelQueue()
    queue.add_with("merge-1", ("a", "second"))
    queue.add_with("merge-1", ("b", "elsewhere"))
    queue.add_with("merge-2", ("a", "third"))
    queue.add_concerned(JOB)
    keys = await queued(queue)
    assert keys == {("a", "first"), ("a", "second")}
    for key in keys:
        queue.done(key)
    queue.add_concerned(JOB)
    assert await queued(queue) == {("a", "first")}
