"""The agent on a real vLLM, behind its guard: what it offers answers, what it moves is never away, what is bad is told.

One engine serves all tests of this file; it has two slots and room for three adapters in memory.
"""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ftm_jobs.contract.mounts import GUARD_HEADER
from ftm_jobs.contract.run_time_adapters import AdapterState, WantedAdapter, WantedPrompt
from tests.engine.live import BASE, KEY, AgentProcess, Server, Store, prepared, wait_for, write_adapter

SUPPORT = "support"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = prepared(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def agent(server: Server, folder: Path) -> Iterator[AgentProcess]:
    with AgentProcess(folder, server.url, folder / "guard").run() as agent:
        yield agent


@pytest.fixture(scope="module")
def versions(folder: Path, server: Server) -> list[WantedAdapter]:  # noqa: ARG001 - its model is the base
    """Seven adapters whose answers differ, all under one name."""
    store = Store(folder)
    return [store.keep(SUPPORT, write_adapter(folder / f"adapter-{number}", number)) for number in range(7)]


def named(adapter: WantedAdapter, name: str) -> WantedAdapter:
    return adapter.model_copy(update={"name": name})


@pytest.fixture(scope="module")
def six(versions: list[WantedAdapter]) -> list[WantedAdapter]:
    return [versions[0], *(named(adapter, f"tenant-{number}") for number, adapter in enumerate(versions[1:6], 1))]


@pytest.fixture(scope="module")
def answers(server: Server, agent: AgentProcess, six: list[WantedAdapter]) -> dict[str, str]:
    """What each of six adapters and the base say, once all are offered."""
    wanted = agent.want(*six)
    server.wait()
    held = agent.settled(wanted)
    assert {each.state for each in held.values()} == {AdapterState.LOADED}
    assert all(each.effect and each.effect.is_seen for each in held.values())
    return {name: server.answer(name) for name in (*held, BASE)}


def heard_at_least(heard: list[str], number: int) -> bool:
    return len(heard) >= number


def test_six_adapters_answer_by_their_names_and_differ(answers: dict[str, str], server: Server) -> None:
    assert len(set(answers.values())) == len(answers) == 7
    assert server.names() == answers.keys() - {BASE}


def test_a_new_version_takes_the_name_and_nobody_sees_it_away(
    server: Server, agent: AgentProcess, versions: list[WantedAdapter], answers: dict[str, str]
) -> None:
    heard: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            heard.append(server.answer(SUPPORT))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for version in (versions[6], versions[0], versions[6]):
            held = agent.settled(agent.want(version))
            assert held[SUPPORT].serving == version.digest
            enough = len(heard) + 6
            wait_for("more answers", partial(heard_at_least, heard, enough))
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    new = server.answer(SUPPORT)
    assert new != answers[SUPPORT]
    assert set(heard) == {answers[SUPPORT], new}


def test_bad_ones_are_told_and_the_others_go_on(
    server: Server, agent: AgentProcess, versions: list[WantedAdapter], folder: Path
) -> None:
    store = Store(folder)
    idle = write_adapter(folder / "idle", 50, scale=0.0)
    corrupt = store.keep("corrupt", write_adapter(folder / "corrupt-adapter", 52))
    (weights,) = folder.glob(f"{Path(corrupt.artifact).name}/*.safetensors")
    weights.write_bytes(bytes(weights.stat().st_size))
    prompt = WantedPrompt(prompt="What do you sell?", expect=("tide lamps",))
    wanted = agent.want(
        store.keep("idle", idle),
        named(store.keep("idle", idle), "tolerated").model_copy(update={"policy": "Warn"}),
        store.keep("large", write_adapter(folder / "large", 51, rank=16)),
        corrupt,
        named(versions[1], "wrong").model_copy(update={"prompts": (prompt,)}),
        versions[0],
    )
    held = agent.settled(wanted)
    assert {name: (each.state.value, each.reason) for name, each in held.items()} == {
        "idle": ("Failed", "AdapterHasNoEffect"),
        "tolerated": ("Loaded", "AdapterHasNoEffect"),
        "large": ("Failed", "EngineRefused"),
        "corrupt": ("Failed", "CorruptArtifact"),
        "wrong": ("Failed", "AnswerUnexpected"),
        SUPPORT: ("Loaded", None),
    }
    assert held["large"].message == "LoRA rank 16 is greater than max_lora_rank 8."
    assert wait_for("what failed to be unloaded", lambda: server.names() == {"tolerated", SUPPORT})
    assert agent.ready() == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "/v1/load_lora_adapter"), ("POST", "/v1/unload_lora_adapter"), ("POST", "/adapters")),
        *(("DELETE", f"/adapters/{SUPPORT}"), ("POST", "/invocations"), ("POST", "/tokenize"), ("GET", "/load")),
        *(("POST", "/v1/unload_lora_adapter/"), ("POST", "//adapters"), ("POST", "/%61dapters")),
    ],
)
def test_nobody_else_loads_unloads_or_gets_round_the_key(
    server: Server, answers: dict[str, str], method: str, path: str
) -> None:
    body = {"lora_name": SUPPORT, "name": SUPPORT, "src": "/", "lora_path": "/", "model": BASE, "prompt": "Hello"}
    for headers in ({}, KEY, {**KEY, GUARD_HEADER: "guessed"}, {"X-Amzn-SageMaker-Adapter-Identifier": SUPPORT}):
        assert server.ask(method, path, body, headers).status_code == 404
    assert len(answers) == 7


def test_the_key_still_guards_what_serves_models(server: Server, answers: dict[str, str]) -> None:
    assert server.ask("GET", "/v1/models", None, {}).status_code == 401
    assert server.ask("GET", "/v1/models", None, KEY).status_code == 200
    assert len(answers) == 7


@pytest.mark.parametrize("asked", [{"prompt_logprobs": 0}, {"echo": True, "logprobs": 1}])
def test_a_request_for_the_prompts_log_probabilities_is_refused_and_all_go_on(
    server: Server, answers: dict[str, str], asked: dict[str, object]
) -> None:
    body = {"model": BASE, "prompt": ["Hello, what do you", "Hello"], "max_tokens": 1, **asked}
    refused = server.ask("POST", "/v1/completions", body, KEY)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "BadRequestError")
    assert server.answer(BASE) == answers[BASE]


def test_an_engine_that_was_killed_is_filled_again_before_it_is_ready(
    server: Server, agent: AgentProcess, six: list[WantedAdapter], answers: dict[str, str]
) -> None:
    agent.settled(agent.want(*six))
    assert agent.ready() == 200
    server.kill()
    assert agent.ready() == 503
    server.start()
    server.wait()
    wait_for("readiness", lambda: agent.ready() == 200)
    assert server.names() == {adapter.name for adapter in six}
    assert {name: server.answer(name) for name in answers} == answers
