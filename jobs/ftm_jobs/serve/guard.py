"""Guards vLLM's HTTP server: an ASGI middleware that lets through what serves models, and the agent.

vLLM's own key covers /v1, /v2, /inference and /cohere alone (vllm/entrypoints/serve/middleware/authenticate.py), so
that `/adapters` and `/invocations` would load, unload and answer for anybody. Each path that vLLM serves is on one of
the lists here or refused with 404. The paths that load and unload adapters need the agent's secret.

Beside adapters, requests for the log-probabilities of the prompt's own tokens are refused: vLLM computes them with the
mapping of the tokens that it samples, by which its CPU build ends for everybody (compute_logits in
_get_prompt_logprobs_dict of vllm/v1/worker/gpu_model_runner.py, with LogitsProcessorWithLoRA).

While the agent moves a public name from one version of an adapter to the next, the name is there for nobody. Requests
wait until it is there again, and one that vLLM answered with 404 just then is asked again.

Before its pod ends, `python3 -m ftm_guard PORT LEAST MOST` asks the guard to drain: from then on each answer closes its
connection, so that a client's next request goes to another pod, and the program ends once no request is in flight.
vLLM itself finishes what it answers, but ends at once what comes afterwards on connections that stay open
(_reject_add_in_shutdown of vllm/v1/engine/core.py).

The file is copied beside the secret and imported by vLLM, whose image has nothing else of ours: it needs the standard
library alone.
"""

import asyncio
import hmac
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MODELS = frozenset(
    {
        "/cohere/v2/chat",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/chat/completions",
        "/v1/chat/completions/batch",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/realtime",
        "/v1/rerank",
        "/v1/responses",
        "/v1/score",
        "/v1/systemone",
        "/v2/embed",
        "/v2/rerank",
    }
)
"""Paths that serve models, for everybody: vLLM asks for its key there, if it has one."""
PROBES = frozenset({"/health", "/metrics", "/ping", "/version"})
"""Paths that the kubelet, Prometheus and people read, without a key."""
WITHOUT_KEY = frozenset({"/classify", "/detokenize", "/pooling", "/rerank", "/score", "/tokenize"})
"""Paths that serve models and that vLLM asks no key for: open where the engine has no key, else for nobody."""
STORED_RESPONSE = re.compile(r"GET /v1/responses/[^/]+|POST /v1/responses/[^/]+/cancel")
"""Methods and paths that serve a response which was stored."""
AGENT = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
"""Paths that need the secret."""
HEADER = b"x-ftm-agent"
"""The request header with the agent's secret."""
MOVE_HEADER = b"x-ftm-move"
"""The agent's request header that begins and ends the move of a name: `begin`, when it unloads, and `end`."""
DRAIN = "/drain"
"""The guard's own path, which needs the secret: it is answered once a drain is over."""
DRAIN_HEADER = b"x-ftm-drain"
"""The request header with the least and the most seconds that a drain takes: `15 55`."""
IDLE_SECONDS = 1.0
"""A client that goes on asking does so within these."""
ANSWERED_SECONDS = 5.0
"""A server that does not begin to answer within these is not asked to drain."""
NO_PROMPT = "prompt_logprobs, and echo with logprobs, are not served beside adapters: leave them out of the request"
LONGEST_MOVE_SECONDS = 5.0
"""After these, requests wait no longer for the end of a move."""
SECRET_FILE = "secret"
KEY_VARIABLE = "VLLM_API_KEY"
ADAPTERS_VARIABLE = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""Set where adapters are loaded at run time."""


class Guard:
    """Stands in front of all that vLLM serves; `vllm serve --middleware ftm_guard.Guard` puts it there."""

    def __init__(self, app: App) -> None:
        """Reads the secret from the file beside this one. Raises OSError where it is not there, ValueError if empty."""
        self._app = app
        self._secret = Path(__file__).with_name(SECRET_FILE).read_bytes().strip()
        if not self._secret:
            raise ValueError(f"{Path(__file__).with_name(SECRET_FILE)} is empty: the fetch step writes it anew")
        self._key = os.environ.get(KEY_VARIABLE, "").encode()
        self._has_adapters = os.environ.get(ADAPTERS_VARIABLE, "").strip().lower() in ("1", "true")
        self._still = asyncio.Event()
        self._still.set()
        self._moves = 0
        """Moves that have begun since the start."""
        self._until = 0.0
        """The time until which the present move is waited for."""
        self._drain = _Drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif self._is_agent(scope):
            await self._serve_agent(scope, receive, send)
        elif not self._is_open(scope):
            await _refuse(scope, send)
        elif route_path(scope) in PROBES:
            await self._app(scope, receive, send)
        else:
            with self._drain.counted():
                if scope["type"] == "websocket":
                    await self._wait()
                    await self._app(scope, receive, send)
                else:
                    await self._serve(scope, receive, self._drain.closing(send))

    def _is_agent(self, scope: Scope) -> bool:
        sent = _header(scope, HEADER)
        return sent is not None and hmac.compare_digest(sent, self._secret)

    def _is_open(self, scope: Scope) -> bool:
        path = route_path(scope)
        if path in MODELS or path in PROBES or STORED_RESPONSE.fullmatch(f"{scope.get('method', '')} {path}"):
            return True
        return path in WITHOUT_KEY and not self._key

    async def _serve_agent(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves who has the secret and needs no key of the engine's, and notes the moves that the agent makes."""
        if route_path(scope) == DRAIN:
            await self._drain.serve(scope, send)
            return
        if route_path(scope) not in AGENT | MODELS | PROBES:
            await _refuse(scope, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in (HEADER, b"authorization")]
        if self._key:
            headers.append((b"authorization", b"Bearer " + self._key))
        step = _header(scope, MOVE_HEADER)
        if step == b"begin":
            self._begin()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app({**scope, "headers": headers}, receive, watched)
        finally:
            done = status == 200
            if done if step == b"end" else step == b"begin" and not done:
                self._still.set()

    def _begin(self) -> None:
        self._moves += 1
        self._until = time.monotonic() + LONGEST_MOVE_SECONDS
        self._still.clear()

    async def _wait(self) -> None:
        """Returns when no name is being moved, or has been for too long."""
        while not self._still.is_set():
            try:
                await asyncio.wait_for(self._still.wait(), max(0.0, self._until - time.monotonic()))
            except TimeoutError:
                if time.monotonic() >= self._until:
                    self._still.set()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, and asks once more if it was answered with 404 because a name was being moved."""
        body = _Body(receive)
        if self._has_adapters and scope["method"] == "POST" and asks_for_prompt(await body.whole()):
            await _answer(send, 400, {"error": {"message": NO_PROMPT, "type": "BadRequestError", "code": 400}})
            return
        await self._wait()
        moves = self._moves
        answer = _Answer(send, lambda: self._moves != moves, body.forget)
        await self._app(dict(scope), body.reader(), answer.send)
        if answer.is_held:
            await self._wait()
            await self._app(dict(scope), body.reader(), send)


class _Drain:
    """Counts the requests that are being answered, and has answers close their connections before the pod ends."""

    def __init__(self) -> None:
        self._has_begun = False
        self._in_flight = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        self._in_flight += 1
        self._none.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._none.set()

    def closing(self, send: Send) -> Send:
        """Returns what sends an answer, with `Connection: close` if it begins after the drain has."""

        async def sent(message: Message) -> None:
            if self._has_begun and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        return sent

    async def serve(self, scope: Scope, send: Send) -> None:
        """Begins the drain, and ends the answer once no request is in flight, or after the most seconds.

        What was in flight is a line of the engine's log, too.
        """
        self._has_begun = True
        least, most = (float(word) for word in (_header(scope, DRAIN_HEADER) or b"0 0").split())
        began = time.monotonic()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        first = self._in_flight
        await asyncio.sleep(least)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle(), max(0.0, most - (time.monotonic() - began)))
        said = {"inFlightAtFirst": first, "inFlight": self._in_flight, "seconds": round(time.monotonic() - began, 3)}
        sys.stderr.write(f"{json.dumps(said)}\n")
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    async def _idle(self) -> None:
        """Returns once nobody asks any more: an answer that began before the drain leaves its connection open."""
        while True:
            await self._none.wait()
            await asyncio.sleep(IDLE_SECONDS)
            if self._none.is_set():
                return


class _Body:
    """Holds the body of a request, which can be read again until the answer has begun."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []

    def forget(self) -> None:
        self._messages.clear()

    async def whole(self) -> bytes:
        """Reads all of it; less where the client goes away."""
        while not self._messages or self._messages[-1].get("more_body"):
            if (await self._next())["type"] != "http.request":
                break
        return b"".join(message.get("body", b"") for message in self._messages)

    def reader(self) -> Receive:
        """Returns what reads the body from its beginning, and then whatever else the client sends."""
        held = iter(list(self._messages))

        async def read() -> Message:
            message = next(held, None)
            return await self._next() if message is None else message

        return read

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._messages.append(message)
        return message


class _Answer:
    """Sends the answer to a request, but for a 404 while a name was moved."""

    def __init__(self, send: Send, moved: Callable[[], bool], begun: Callable[[], None]) -> None:
        self._send = send
        self._moved = moved
        self._begun = begun
        self.is_held = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_held = message["status"] == 404 and self._moved()
            if not self.is_held:
                self._begun()
        if not self.is_held:
            await self._send(message)


def route_path(scope: Scope) -> str:
    """Returns the decoded path by which the request is routed. Source: get_route_path of starlette/_utils.py."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root or not path.startswith(root):
        return path
    rest = path[len(root) :]
    return rest if not rest or rest.startswith("/") else path


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def asks_for_prompt(body: bytes) -> bool:
    """Returns True if a request wants the log-probabilities of its own tokens, however its JSON is written."""
    if not any(mark in body for mark in (b"logprobs", b"\\u", b"\0")):  # escapes, and UTF-16 or UTF-32
        return False
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(asked, dict):
        return False
    logprobs = asked.get("logprobs")
    echoes = bool(asked.get("echo")) and logprobs is not None and logprobs is not False
    return echoes or asked.get("prompt_logprobs") is not None


async def _refuse(scope: Scope, send: Send) -> None:
    """Answers as vLLM does for a path that it does not have; a WebSocket is closed before it is accepted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
    else:
        await _answer(send, 404, {"detail": "Not Found"})


async def _answer(send: Send, status: int, said: Any) -> None:
    content = json.dumps(said, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def drain(port: int, least: float, most: float) -> str:
    """Has the server of this pod drain, and returns what it says of it; waits the least seconds where it says nothing.

    The kubelet ends the container when this has returned.
    """
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERED_SECONDS)
    secret = Path(__file__).with_name(SECRET_FILE).read_bytes().strip()
    try:
        connection.connect()
        socket = connection.sock
        connection.request("GET", DRAIN, headers={HEADER.decode(): secret, DRAIN_HEADER.decode(): f"{least} {most}"})
        answered = connection.getresponse()
        socket.settimeout(most + ANSWERED_SECONDS)
        if answered.status == http.client.OK:
            return answered.read().decode()
        said = f"it answered with {answered.status}"
    except (OSError, http.client.HTTPException) as error:
        said = str(error)
    time.sleep(max(0.0, least - (time.monotonic() - began)))
    return f"the server at port {port} did not drain: {said}"


if __name__ == "__main__":
    sys.stdout.write(f"{drain(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))}\n")
