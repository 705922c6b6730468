"""Connections stay with the endpoint that they got, as kube-proxy has it, and new ones go to those that are left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from ftm_operator.benchmark.prompts import BenchmarkPrompt
from ftm_operator.benchmark.streaming import RequestSettings
from tests.bench.served.rollout import STREAMS, Load
from tests.bench.served.service import ServiceStandIn
from tests.unit.operator.benchmark.server import StreamingServer, streaming_server


def port(server: StreamingServer) -> int:
    return int(server.url.rpartition(":")[2])


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=1)) as session:
        yield session


async def ask(session: aiohttp.ClientSession) -> None:
    async with session.post("/v1/completions", json={}) as response:
        assert response.status == 200
        await response.read()


async def test_an_open_connection_stays_and_a_new_one_goes_to_whom_is_left() -> None:
    async with streaming_server() as old, streaming_server() as new:
        service = ServiceStandIn(port(old))
        async with service.serving(), asking(service.url) as first, asking(service.url) as second:
            await ask(first)
            service.endpoints = {port(new)}
            await ask(first)
            await ask(second)
    assert (len(old.asked), len(new.asked)) == (2, 1)
    assert service.connections == {port(old): 1, port(new): 1}


async def test_an_endpoint_that_is_gone_fails_the_requests_that_it_gets() -> None:
    async with streaming_server() as gone:
        dead = port(gone)
    service = ServiceStandIn(dead)
    load = Load(RequestSettings("", timeout_seconds=5), "bot", [BenchmarkPrompt("Where?", None, 5)])
    async with service.serving():
        load.settings = RequestSettings(service.url, timeout_seconds=5)
        running = asyncio.create_task(load.run())
        await load.answers(2)
        load.is_over = True
        await running
    assert len(load.ended) >= 2 * STREAMS
    assert all(each.error and each.error.kind == "Disconnected" for each in load.ended)


async def test_a_server_that_ends_in_the_middle_of_an_answer_fails_it() -> None:
    async with streaming_server(events=(None,)) as server:
        service = ServiceStandIn(port(server))
        async with service.serving():
            settings = RequestSettings(service.url, timeout_seconds=5)
            load = Load(settings, "bot", [BenchmarkPrompt("Where?", None, 5)])
            running = asyncio.create_task(load.run())
            await load.answers(1)
            load.is_over = True
            await running
    assert {each.error.kind for each in load.ended if each.error} == {"Disconnected"}
