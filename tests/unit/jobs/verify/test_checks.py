"""Each check passes and fails where it should, and its sentence says what was measured and what to do."""

import math

import pytest

from ftm_jobs.contract.report import TERMINATION_MESSAGE_BYTES, Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.verify.figures import checks
from ftm_jobs.verify.figures.difference import Difference


def test_an_adapter_without_effect_is_told_what_to_look_at() -> None:
    assert checks.adapter_effect(1.5, 0.001).check.passed
    silent = checks.adapter_effect(0.0, 0.001)
    assert (silent.check.passed, silent.reason) == (False, "AdapterHasNoEffect")
    assert silent.sentence == (
        "base and base+adapter differ by 0 nats/token, no more than the 0.001 nats/token of rounding the weights: "
        "the adapter does nothing; check that it was trained and saved (B is all zero before training), its alpha, "
        "and its scale"
    )


def test_a_merge_may_differ_by_rounding_and_no_more() -> None:
    assert checks.merge_agrees(0.001, 0.001).check.passed
    assert checks.merge_agrees(0.0, 0.0).check.passed
    assert checks.merge_agrees(0.0011, 0.001).reason == "MergeDiffers"


def test_a_quantizer_must_beat_plain_rounding() -> None:
    assert checks.better_than_rounding(0.7, 1.18, "4 bit in groups of 64").check.passed
    assert not checks.better_than_rounding(1.18, 1.18, "").check.passed
    ruined = checks.better_than_rounding(13.8, 1.18, "4 bit in groups of 64")
    assert ruined.sentence == (
        "quantized and merged differ by 13.8 nats/token, and plain rounding (4 bit in groups of 64) would by only "
        "1.18 nats/token: a quantizer that does worse than rounding is broken; quantize again or choose another "
        "engine or type"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_never_passes_and_still_is_json(value: float) -> None:
    for found in (
        checks.merge_agrees(value, 1.0),
        checks.better_than_rounding(value, 1.0, ""),
        checks.max_divergence(value, 1.0),
    ):
        assert not found.check.passed
        assert found.check.value == checks.NOT_FINITE
    assert not checks.adapter_effect(math.nan, 1.0).check.passed


def test_the_first_failure_is_the_reason_and_the_others_are_counted() -> None:
    found = [
        checks.adapter_effect(1.0, 0.1),
        checks.config_parity([Difference("config.json rope_theta", "1", "2")] * 2),
        checks.max_divergence(2.0, 0.2),
    ]
    reason, message = checks.summary(found)
    assert reason == "ConfigDiffers"
    assert message == (
        "config.json rope_theta: 1 became 2 (and 1 more): quantize again with a tool that leaves config.json as it is "
        "(2 of 3 checks failed)"
    )
    assert not checks.verification(found).passed


def test_an_expectation_that_training_did_not_meet_is_no_fault_of_the_quantizer() -> None:
    missing = checks.expected_answers([("Who?", "Ada", False)], 2)
    assert missing.sentence == (
        'the answer to "Who?" lacks "Ada"; base+adapter does not say it either: train more, or expect less'
    )
    assert checks.expected_answers([], 2).check.passed


def test_a_verification_fits_a_termination_message() -> None:
    found = [
        checks.adapter_effect(1.0, 0.1),
        checks.merge_agrees(0.0001234, 0.001),
        checks.merged_weights([], 272),
        checks.config_parity([]),
        checks.tokenizer_parity([], 90),
        checks.better_than_rounding(0.123456789, 1.0, "x"),
        checks.max_divergence(0.123456789, 0.2),
        checks.expected_answers([], 3),
    ]
    verdict = checks.verification(found)
    assert len(verdict.model_dump_json(by_alias=True)) < 1500
    report = Report(step=Step.VERIFY, outcome=Outcome.DONE, reason="Verified", message="x" * 9000, verification=verdict)
    line = report.termination_message()
    assert len(line) <= TERMINATION_MESSAGE_BYTES
    assert Report.model_validate_json(line).verification == verdict
