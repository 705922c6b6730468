"""A small real server that streams answers as OpenAI-compatible engines do, or fails in one of their ways."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
ROLE_AT_END = {"choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": "stop"}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def token(text: str) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}}]}


WHOLE = (ROLE, token("Ly"), token("on"), END, USAGE, "[DONE]")


@dataclass
class StreamingServer:
    """What it answers, and what it was asked."""

    events: tuple[Any, ...] = WHOLE
    """Documents to stream; None cuts the connection, a number waits so many seconds, bytes are sent as they are."""
    status: int = 200
    asked: list[tuple[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, await request.json()))
        if self.status != 200:
            return web.Response(status=self.status, text="no such\nmodel")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            await self._stream(request, response)
        finally:
            self.in_flight -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        for event in self.events:
            if event is None:
                assert request.transport
                request.transport.abort()
            elif isinstance(event, float):
                await asyncio.sleep(event)
            else:
                await response.write(event if isinstance(event, bytes) else _event(event))


def _event(content: Any) -> bytes:
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()


@asynccontextmanager
async def streaming_server(**settings: Any) -> AsyncIterator[StreamingServer]:
    served = StreamingServer(**settings)
    application = web.Application()
    application.router.add_post("/v1/chat/completions", served.answer)
    application.router.add_post("/v1/completions", served.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        await runner.cleanup()
