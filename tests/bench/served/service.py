"""Stands in for a Service and kube-proxy, which take a node: each new connection goes to a ready endpoint at random.

As with kube-proxy, a connection stays with its endpoint until either side closes it, even when the endpoint has left
the Service. tests/platform has the same rollout on a real node, with the real Service.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ftm_operator.local.ports import ADDRESS

BLOCK_BYTES = 1 << 16
CLOSED_SECONDS = 5.0
"""The time in which connections end whose clients have closed them."""


class ServiceStandIn:
    """Forwards connections to ports of this machine."""

    def __init__(self, *endpoints: int) -> None:
        self.endpoints = set(endpoints)
        self.connections: Counter[int] = Counter()
        """How many connections each endpoint got."""
        self._chooser = random.Random(1)
        self._port = 0
        self._forwarding: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self._port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ServiceStandIn"]:
        """Listens while the block lasts."""
        server = await asyncio.start_server(self._accept, ADDRESS, 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            if self._forwarding:
                await asyncio.wait(self._forwarding, timeout=CLOSED_SECONDS)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            port = self._chooser.choice(sorted(self.endpoints))
            self.connections[port] += 1
            their_reader, their_writer = await asyncio.open_connection(ADDRESS, port)
        except (OSError, IndexError):  # no endpoint, or one that is gone: the client is told as a node would tell it
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, their_writer), _copy(their_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(BLOCK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
