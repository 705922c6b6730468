"""Each measured reserve states as many logs as there are in vllm_logs.yaml and in reserves.py's table that say it."""

from collections.abc import Callable

import pytest

from ftm_operator.planning.memory import reserves
from ftm_operator.planning.memory.engine_setup import EngineSetup, version_of_image
from ftm_operator.planning.memory.reserves import Constant
from tests.unit.operator.planning.vllm_logs import LOGS, Log

TABLE = {"Qwen3-0.6B": 1, "Llama-3.1-8B": 1, "Qwen3-32B": 1, "gpt-oss-20b": 1, "gpt-oss-120b": 1, "Llama-3.3-70B": 2}
"""Ranks of the starts in the table of reserves.py, all of model runner V1; those of gpt-oss have experts."""
WITH_EXPERTS = 2


def runner(log: Log) -> str:
    version = version_of_image(f":{log.fields['vllm_version']}")
    return EngineSetup(version).runner(log.model)


def ranks(log: Log) -> int:
    return int(log.fields["tp"] * log.fields["pp"])


def is_plain(log: Log) -> bool:
    return not log.model.experts and not log.model.state


def says(item: str, which: Callable[[Log], bool]) -> int:
    return sum(item in log.logged and which(log) for log in LOGS)


def test_the_table_has_these_starts() -> None:
    rows = [line.split() for line in str(reserves.__doc__).splitlines() if " tp " in line]
    assert {row[0]: int(row[2]) for row in rows} == TABLE


@pytest.mark.parametrize(
    ("constant", "logs"),
    [
        (reserves.SAMPLER["V1"], says("activation_gib", lambda log: runner(log) == "V1") + len(TABLE)),
        (reserves.SAMPLER["V2"], says("activation_gib", lambda log: runner(log) == "V2")),
        (reserves.SAMPLER["V1 or V2"], says("activation_gib", lambda _: True) + len(TABLE)),
        (
            reserves.GRAPH_OF_LAYER,
            says("graphs_gib", lambda log: runner(log) != "V2" and is_plain(log)) + len(TABLE) - WITH_EXPERTS,
        ),
        (reserves.GRAPH_OF_LAYER_V2, says("graphs_gib", lambda log: runner(log) == "V2" and not log.model.experts)),
        (
            reserves.GRAPH_OF_LAYER_WITH_EXPERTS,
            says("graphs_gib", lambda log: runner(log) == "V1" and not is_plain(log)) + WITH_EXPERTS,
        ),
        (reserves.NON_TORCH, says("non_torch_gib", lambda log: ranks(log) == 1) + list(TABLE.values()).count(1)),
        (reserves.NON_TORCH_OF_TWO, says("non_torch_gib", lambda log: ranks(log) == 2) + list(TABLE.values()).count(2)),
        (reserves.NON_TORCH_OF_MORE, says("non_torch_gib", lambda log: ranks(log) > 2)),
        (reserves.SLACK, len(TABLE)),
        (reserves.ENCODER, sum(log.model.has_encoder and "kv_tokens" in log.fields["compare"] for log in LOGS)),
    ],
    ids=["V1", "V2", "both", "graphs", "graphs V2", "graphs of experts", "one", "two", "more", "slack", "encoder"],
)
def test_a_reserve_states_the_logs_that_say_it(constant: Constant, logs: int) -> None:
    assert constant.logs == logs


def test_activations_that_logs_of_encoders_say_are_within_the_ends() -> None:
    (log,) = [log for log in LOGS if log.model.has_encoder and "activation_gib" in log.logged]
    held = [log.memory.reserves[name] for name in ("activations", "encoder")]
    logged = log.logged["activation_gib"] * 2**30
    assert sum(each.least for each in held) <= logged <= sum(each.most for each in held)
