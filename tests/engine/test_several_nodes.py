"""The pods of a replica over several nodes tell vLLM what it understands, read by `vllm serve`'s own parser."""

from typing import Any

import pytest

from tests.unit.operator.reconcile.test_leader_worker_set import LARGE, built, container, spread

INJECTED = {"$(LWS_WORKER_INDEX)": "1", "$(LWS_LEADER_ADDRESS)": "leader.example.test"}


def parsed(template: dict[str, Any]) -> Any:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    engine = container(template)
    assert engine["command"][:2] == ["vllm", "serve"]
    words = [INJECTED.get(word, word) for word in (*engine["command"][2:], *engine["args"])]
    parser = make_arg_parser(FlexibleArgumentParser())  # type: ignore[no-untyped-call]
    found = parser.parse_args(words)
    validate_parsed_serve_args(found)
    return found


@pytest.mark.parametrize("rank", [0, 1], ids=["leader", "worker"])
def test_both_ranks_are_understood_and_the_second_is_headless(rank: int) -> None:
    found = parsed(spread(built({**LARGE, "extraArgs": ["--enforce-eager"]}))[rank])
    assert found.model_tag == "/model"
    assert found.headless == bool(rank)
    assert (found.nnodes, found.node_rank) == (2, rank)
    assert (found.master_addr, found.master_port) == ("leader.example.test", 29501)
    assert (found.pipeline_parallel_size, found.tensor_parallel_size) == (2, 1)
    assert found.enforce_eager
