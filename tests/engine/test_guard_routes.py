"""Every path that this vLLM serves is on one of the guard's lists, or here among those that are refused."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.tasks import SupportedTask
from vllm.utils.argparse_utils import FlexibleArgumentParser

from ftm_jobs.serve.guard import AGENT, MODELS, PROBES, WITHOUT_KEY

STORED = {"/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel"}
REFUSED = {
    # they load, unload or answer, and ask for no key
    *("/adapters", "/adapters/{adapter_name}", "/invocations", "/generative_scoring"),
    # they stop, scale, move or change the engine, or others' requests
    *("/abort_requests", "/inference/v1/abort_requests", "/fault_tolerance/apply", "/is_scaling_elastic_ep"),
    *("/pause", "/resume", "/scale_elastic_ep", "/sleep", "/wake_up", "/release_kv_cache_memory", "/collective_rpc"),
    *("/reset_encoder_cache", "/reset_mm_cache", "/reset_prefix_cache", "/start_profile", "/stop_profile"),
    *("/init_weight_transfer_engine", "/shutdown_weight_transfer_engine", "/start_weight_update", "/update_weights"),
    *("/start_draft_weight_update", "/finish_weight_update", "/update_weight_version", "/weight_checker"),
    # they tell of the engine
    *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/static", "/fault_tolerance/status", "/load"),
    *("/get_world_size", "/is_paused", "/is_sleeping", "/kv_event_sources", "/server_info", "/tokenizer_info"),
    *("/weight_info", "/ready", "/readyz"),
    # parts of an engine that is split over several servers, which the operator makes none of
    *("/inference/v1/generate", "/cohere/v2/chat/render", "/v1/messages/render", "/v1/responses/render"),
    *("/v1/chat/completions/derender", "/v1/chat/completions/render"),
    *("/v1/completions/derender", "/v1/completions/render"),
}
DECLARING = {
    *("get", "post", "put", "patch", "delete", "head", "options", "websocket", "api_route", "websocket_route"),
    *("route", "mount", "add_api_route", "add_api_websocket_route", "add_route", "add_websocket_route", "Mount"),
}


def served() -> set[str]:
    """Returns the paths of the apps that vLLM builds for every task, its endpoints of development included."""
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(  # type: ignore[no-untyped-call]
        ["--enable-tokenizer-info-endpoint"]
    )
    tasks: tuple[SupportedTask, ...] = get_args(SupportedTask)
    routes: list[Any] = [
        route for each in (tasks, *((task,) for task in tasks)) for route in build_app(arguments, each).routes
    ]
    return {route.path for route in routes}


def declared() -> Iterator[str]:
    """Yields the paths that vLLM's servers declare, in whatever circumstances they serve them."""
    engine = find_spec("vllm")
    assert engine
    assert engine.submodule_search_locations
    for file in (Path(engine.submodule_search_locations[0]) / "entrypoints").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            path = node.args[0].value
            if name in DECLARING and isinstance(path, str) and path.startswith("/"):
                yield path


def test_each_path_is_on_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE"):
        monkeypatch.setenv(variable, "1")
    lists = [set(MODELS), set(PROBES), set(WITHOUT_KEY), set(AGENT), STORED, REFUSED]
    there = served()
    assert there >= {"/v1/chat/completions", "/adapters", "/v1/load_lora_adapter", "/collective_rpc", "/v1/realtime"}
    there |= set(declared())
    assert {path: sum(path in each for each in lists) for path in there} == dict.fromkeys(there, 1)
    assert set.union(*lists) - there == set()
