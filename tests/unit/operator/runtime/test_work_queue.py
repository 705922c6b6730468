"""The queue's guarantees, one test each, named after it."""

import asyncio

from ftm_operator.runtime.work_queue import RETRY_FIRST, WorkQueue


async def take_now(queue: WorkQueue[str]) -> str | None:
    try:
        return await asyncio.wait_for(queue.take(), 0.05)
    except TimeoutError:
        return None


async def test_a_key_is_worked_on_by_one_worker_at_a_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await take_now(queue) == "a"
    queue.add("a")
    assert await take_now(queue) is None


async def test_additions_of_a_waiting_key_coalesce() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert await take_now(queue) == "a"
    queue.done("a")
    assert await take_now(queue) is None


async def test_a_key_added_while_it_is_worked_on_is_worked_on_once_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.take()
    queue.add("a")
    queue.add("a")
    queue.done("a")
    assert await take_now(queue) == "a"
    queue.done("a")
    assert await take_now(queue) is None


async def test_a_delayed_addition_never_hides_an_immediate_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60)
    queue.add("a")
    assert await take_now(queue) == "a"


async def test_of_two_delayed_additions_the_earlier_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    queue.add_after("b", 60)
    queue.add_after("b", 0.01)
    assert [await take_now(queue), await take_now(queue)] == ["a", "b"]


async def test_retries_back_off_until_the_key_succeeds() -> None:
    queue: WorkQueue[str] = WorkQueue(jitter=lambda: 1.0)
    delays = []
    for _ in range(4):
        queue.add("a")
        await queue.take()
        delays.append(queue.retry("a"))
    assert delays == [RETRY_FIRST, RETRY_FIRST * 2, RETRY_FIRST * 4, RETRY_FIRST * 8]
    queue.add("a")
    await queue.take()
    queue.done("a")
    queue.add("a")
    await queue.take()
    assert queue.retry("a") == RETRY_FIRST


async def test_an_update_during_a_failing_pass_is_not_delayed_by_its_retry() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.take()
    queue.add("a")
    queue.retry("a")
    assert await take_now(queue) == "a"


async def test_a_worker_waiting_for_keys_gets_the_next_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add("a")
    assert await asyncio.wait_for(waiting, 60) == "a"


async def test_the_longest_wait_is_known() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert queue.oldest_wait_seconds() == 0
    queue.add("a")
    await asyncio.sleep(0.02)
    queue.add("b")
    assert queue.oldest_wait_seconds() >= 0.02
