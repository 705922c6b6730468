"""Measurements are kept, and correct the next plan of the same model and sizes."""

from dataclasses import replace
from typing import Any

import pytest

from ftm_jobs.contract.byte_counts import GIB
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.planning.answer import sizing_json
from ftm_operator.planning.feedback.measurements import (
    ESTIMATE,
    MOST,
    Measurement,
    added,
    corrections,
    read,
    revision_of,
    written,
)
from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.planning.memory.rank_memory import LEAST_RESERVES
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.outcome import Sizing
from ftm_operator.planning.sizing.request import Correction, Request
from tests.unit.operator.planning.catalogue import model_of

A10G = declared_classes([{"name": "A10G", "perNode": 4}])
MISTRAL = model_of("mistral-7b-v0.1")
KEPT = Measurement("merge-1", "A10G", 1, 1, "vllm:1", 5 * GIB, 4 * GIB, 13 * GIB, "2026-01-01T00:00:00+00:00", ESTIMATE)


def sized(*found: Correction, **request: Any) -> Sizing:
    result = size(MISTRAL, Request(dtype="float16", corrections=found, **request), A10G)
    assert isinstance(result, Sizing)
    return result


def test_what_is_written_is_read_again() -> None:
    assert read(written({KEPT.key: KEPT})) == {KEPT.key: KEPT}


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "7", '{"artifact": 1}', written({"": replace(KEPT, measured_bytes=1.5)})[""]],  # type: ignore[arg-type]
)
def test_what_cannot_be_read_is_left_out(text: str) -> None:
    assert read({"broken": text, KEPT.key: text}) == {}


def test_an_entry_under_another_key_is_left_out() -> None:
    assert read({"0123456789abcdef": written({"": KEPT})[""]}) == {}


@pytest.mark.parametrize(
    "change",
    [{"artifact": "merge-2"}, {"accelerator": "L4"}, {"tensor_parallel": 2}, {"pipeline_parallel": 2}, {"engine": "2"}],
)
def test_measurements_differ_by_artifact_gpu_sizes_and_engine(change: dict[str, Any]) -> None:
    assert replace(KEPT, **change).key != KEPT.key


def test_the_newest_of_a_key_counts_and_the_oldest_go_first() -> None:
    later = replace(KEPT, measured_bytes=GIB, at="2026-01-02T00:00:00+00:00")
    assert added({KEPT.key: KEPT}, [later]) == {later.key: later}
    many = [replace(KEPT, artifact=f"merge-{number}", at=f"2026-02-01T00:{number:05}") for number in range(MOST + 5)]
    kept = added({later.key: later}, many)
    assert len(kept) == MOST
    assert set(kept) == {each.key for each in many[5:]}


def test_only_the_same_artifact_under_the_same_engine_is_corrected() -> None:
    known = {KEPT.key: KEPT}
    assert corrections(known, "merge-1", "vllm:1") == (Correction("A10G", 1, 1, GIB),)
    assert corrections(known, "merge-1", "vllm:2") == corrections(known, "merge-2", "vllm:1") == ()
    assert corrections(known, None, "vllm:1") == ()


def test_a_measurement_beside_an_estimate_by_earlier_formulae_corrects_nothing() -> None:
    earlier = replace(KEPT, estimate=ESTIMATE - 1)
    assert corrections({earlier.key: earlier}, "merge-1", "vllm:1") == ()
    assert added({earlier.key: earlier}, [KEPT]) == {KEPT.key: KEPT}


def test_a_plan_from_before_the_reserves_had_two_ends_is_by_earlier_formulae() -> None:
    assert revision_of(Plan(memory={"kvCache": GIB})) == revision_of(Plan()) == 0
    assert revision_of(Plan(memory=dict(sized(context=2048).option.memory.items(8, 2048)))) == ESTIMATE


def test_a_correction_is_held_and_its_items_still_sum_up() -> None:
    plain, corrected = sized(context=2048), sized(Correction("A10G", 1, 1, GIB), context=2048)
    assert corrected.option.memory.left == plain.option.memory.left - GIB
    answer = sizing_json(corrected)
    items = {name: value for name, value in answer["memory"].items() if name not in (LEAST_RESERVES, "kvCacheNeeded")}
    assert items["measuredCorrection"] == GIB
    assert items.pop("total") == sum(items.values())
    assert "1.00 GiB more of reserves than estimated: by what vLLM was measured to hold of A10G" in answer["reasons"]
    assert "measuredCorrection" not in sizing_json(plain)["memory"]


def test_a_correction_moves_a_model_to_more_gpus_or_to_fewer() -> None:
    assert sized(context=4096).option.layout.gpus == 1
    assert sized(Correction("A10G", 1, 1, 3 * GIB), context=4096).option.layout.gpus == 2
    assert sized(context=8192).option.layout.gpus == 2
    assert sized(Correction("A10G", 1, 1, -6 * GIB), context=8192).option.layout.gpus == 1


def test_another_kind_of_gpu_or_other_sizes_are_not_corrected() -> None:
    others = (Correction("L4", 1, 1, 3 * GIB), Correction("A10G", 2, 1, 3 * GIB), Correction("A10G", 1, 2, 3 * GIB))
    assert sized(*others, context=4096).option == sized(context=4096).option


def test_of_two_corrections_of_the_same_sizes_the_later_counts() -> None:
    twice = Correction("A10G", 1, 1, 3 * GIB), Correction("A10G", 1, 1, 0)
    assert sized(*twice, context=4096).option == sized(context=4096).option
