"""The guard lets through what serves models and the agent, and nothing else; no request sees a name that is away."""

import ast
import asyncio
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract import mounts
from ftm_jobs.serve import guard
from ftm_jobs.serve.guard_files import read_secret, write_guard

LOAD, UNLOAD, CHAT = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/chat/completions"
Handler = Callable[[str], Awaitable[int]]


class Engine:
    """An ASGI app that answers with what `handler` says, and keeps what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[tuple[str, dict[bytes, bytes], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope["path"], dict(scope["headers"]), body))
        await send({"type": "http.response.start", "status": await self.handler(scope["path"]), "headers": []})
        await send({"type": "http.response.body", "body": b"said"})


async def fine(_path: str) -> int:
    return 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_guard(tmp_path)
    return tmp_path


def guarded(folder: Path, handler: Handler = fine) -> tuple[Any, Engine]:
    spec = importlib.util.spec_from_file_location(mounts.GUARD_MODULE, folder / f"{mounts.GUARD_MODULE}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = Engine(handler)
    return module.Guard(engine), engine


async def ask(guard: Any, path: str, method: str = "POST", **options: Any) -> int:
    """Returns the status of the answer; 0 for a WebSocket that was accepted, its code where it was closed."""
    sent: list[Any] = []

    parts = options.pop("body", [b"asked"])
    messages = iter({"type": "http.request", "body": part, "more_body": True} for part in parts)

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.request", "body": b"", "more_body": False})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in options.pop("headers", {}).items()]
    await guard({"type": "http", "path": path, "method": method, "headers": headers, **options}, receive, send)
    return int(sent[0].get("status", sent[0].get("code", 0)))


def test_it_needs_the_standard_library_alone() -> None:
    tree = ast.parse(Path(guard.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name
        for node in imports
        for name in ([each.name for each in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert names
    assert {str(name).partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_it_agrees_with_the_contract() -> None:
    assert guard.HEADER.decode() == mounts.GUARD_HEADER
    assert guard.SECRET_FILE == mounts.GUARD_SECRET_FILE


def test_the_secret_is_random_and_kept_by_a_second_run(tmp_path: Path) -> None:
    write_guard(tmp_path / "one")
    write_guard(tmp_path / "two")
    first = read_secret(tmp_path / "one")
    assert len(first) == 64
    assert first != read_secret(tmp_path / "two")
    write_guard(tmp_path / "one")
    assert read_secret(tmp_path / "one") == first
    assert (tmp_path / "one" / mounts.GUARD_SECRET_FILE).stat().st_mode & 0o777 == 0o440


def test_an_engine_does_not_start_without_a_secret(folder: Path) -> None:
    (folder / mounts.GUARD_SECRET_FILE).unlink()
    with pytest.raises(OSError, match="secret"):
        guarded(folder)


@pytest.mark.parametrize("path", [*sorted(guard.MODELS), *sorted(guard.PROBES), *sorted(guard.WITHOUT_KEY)])
async def test_what_serves_models_is_open(folder: Path, path: str) -> None:
    assert await ask(guarded(folder)[0], path) == 200


async def test_stored_responses_are_open(folder: Path) -> None:
    front, _ = guarded(folder)
    assert await ask(front, "/v1/responses/resp_1", "GET") == 200
    assert await ask(front, "/v1/responses/resp_1/cancel") == 200
    assert await ask(front, "/v1/responses/render") == 404
    assert await ask(front, "/v1/responses/resp_1/input_items", "GET") == 404


@pytest.mark.parametrize("path", sorted(guard.WITHOUT_KEY))
async def test_what_asks_for_no_key_is_closed_where_the_engine_has_one(
    folder: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(guard.KEY_VARIABLE, "secret")
    assert await ask(guarded(folder)[0], path) == 404


@pytest.mark.parametrize(
    "path",
    [
        *(LOAD, UNLOAD, "/adapters", "/adapters/support", "/invocations", "/sleep", "/collective_rpc", "/docs", "/"),
        *("", f"{LOAD}/", f"/{LOAD}", "//v1/models", "/v1/models/", "/v1/../adapters", "/V1/MODELS", "/v1/models\n"),
        *("/v1/models/../../adapters", "/metrics/", "/metricsx", "v1/models", "/v1%2fmodels"),
    ],
)
async def test_everything_else_is_refused(folder: Path, path: str) -> None:
    front, engine = guarded(folder)
    assert await ask(front, path) == 404
    assert await ask(front, path, headers={mounts.GUARD_HEADER: "0" * 64}) == 404
    assert await ask(front, path, headers={mounts.GUARD_HEADER: ""}) == 404
    assert engine.asked == []


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/models", 200), ("/v1/models", 200), ("/api/adapters", 404), ("/apiv1/models", 404)]
)
async def test_a_root_path_is_taken_off_as_the_router_does(folder: Path, path: str, status: int) -> None:
    assert await ask(guarded(folder)[0], path, root_path="/api") == status


async def test_web_sockets_are_held_to_the_same_list(folder: Path) -> None:
    front, _ = guarded(folder)
    assert await ask(front, "/v1/realtime", type="websocket") == 0
    assert await ask(front, "/adapters", type="websocket") == 1008


async def test_the_agent_loads_and_unloads_with_the_engines_own_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(guard.KEY_VARIABLE, "secret")
    front, engine = guarded(folder)
    agent = {mounts.GUARD_HEADER: read_secret(folder)}
    assert [await ask(front, path, headers=agent) for path in (LOAD, UNLOAD, CHAT)] == [200] * 3
    assert all(headers[b"authorization"] == b"Bearer secret" for _, headers, _ in engine.asked)
    assert all(mounts.GUARD_HEADER.encode() not in headers for _, headers, _ in engine.asked)
    assert await ask(front, "/adapters", headers=agent) == 404


class Names:
    """The engine's names, while the agent moves one from a version to the next."""

    def __init__(self, folder: Path) -> None:
        self.there = True
        self.checking = asyncio.Event()
        self.checking.set()
        self.front, self.engine = guarded(folder, self.handle)
        self.secret = read_secret(folder)

    async def handle(self, path: str) -> int:
        if path in (LOAD, UNLOAD):
            self.there = path == LOAD
            return 200
        await self.checking.wait()
        return 200 if self.there else 404

    async def move(self, step: str) -> int:
        headers = {mounts.GUARD_HEADER: self.secret, guard.MOVE_HEADER.decode(): step}
        return await ask(self.front, UNLOAD if step == "begin" else LOAD, headers=headers)


async def test_requests_wait_while_a_name_is_moved_and_probes_do_not(folder: Path) -> None:
    names = Names(folder)
    await names.move("begin")
    asked = asyncio.create_task(ask(names.front, CHAT))
    await asyncio.sleep(0)
    assert await ask(names.front, "/health", "GET") == 404  # the engine itself was asked
    assert not asked.done()
    await names.move("end")
    assert await asked == 200


async def test_a_request_that_was_on_its_way_when_the_name_was_moved_is_asked_again(folder: Path) -> None:
    names = Names(folder)
    names.checking.clear()
    asked = asyncio.create_task(ask(names.front, CHAT))
    await asyncio.sleep(0)
    await names.move("begin")
    names.checking.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not asked.done()
    await names.move("end")
    assert await asked == 200
    assert [body for path, _, body in names.engine.asked if path == CHAT] == [b"asked", b"asked"]


async def test_an_unknown_name_is_told_at_once(folder: Path) -> None:
    names = Names(folder)
    names.there = False
    assert await ask(names.front, CHAT) == 404
    assert len(names.engine.asked) == 1


async def test_nobody_waits_longer_than_the_bound_for_an_agent_that_died(folder: Path) -> None:
    names = Names(folder)
    await names.move("begin")
    names.front._until = 0.0
    assert await ask(names.front, CHAT) == 404


async def test_a_move_that_does_not_begin_holds_nobody(folder: Path) -> None:
    async def refused(path: str) -> int:
        return 404 if path == UNLOAD else 200

    front, _ = guarded(folder, refused)
    headers = {mounts.GUARD_HEADER: read_secret(folder), guard.MOVE_HEADER.decode(): "begin"}
    assert await ask(front, UNLOAD, headers=headers) == 404
    assert await ask(front, CHAT) == 200


async def test_everybody_else_cannot_hold_requests(folder: Path) -> None:
    front, _ = guarded(folder)
    await ask(front, "/v1/models", "GET", headers={guard.MOVE_HEADER.decode(): "begin"})
    assert await ask(front, CHAT) == 200


ASKING = [
    *(b'{"prompt_logprobs": 0}', b'{"prompt_logprobs": "1"}', b'{"echo": true, "logprobs": 1}'),
    *(b'{"\\u0070rompt_logprob\\u0073": 5}', '{"prompt_logprobs": 0}'.encode("utf-16"), b'{"echo": 1, "logprobs": 0}'),
]
NOT_ASKING = [
    *(b'{"logprobs": 5}', b'{"prompt_logprobs": null}', b'{"echo": true}', b'{"prompt": "prompt_logprobs"}'),
    *(b"{logprobs", b'["prompt_logprobs"]', b"", b'{"echo": true, "logprobs": false}'),
]


@pytest.mark.parametrize("body", [*ASKING, *NOT_ASKING])
async def test_beside_adapters_nobody_ends_the_engine_by_asking_for_the_prompts_log_probabilities(
    folder: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [body[:7], body[7:]]
    assert await ask(guarded(folder)[0], CHAT, body=parts) == 200
    monkeypatch.setenv(guard.ADAPTERS_VARIABLE, "1")
    front, engine = guarded(folder)
    assert await ask(front, CHAT, body=parts) == (400 if body in ASKING else 200)
    assert [asked for _, _, asked in engine.asked] == ([] if body in ASKING else [body])
