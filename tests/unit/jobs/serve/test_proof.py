"""An effect is a difference that rounding does not explain, and an answer is right with all its texts in it."""

import pytest

from ftm_jobs.contract.run_time_adapters import WantedPrompt
from ftm_jobs.errors import InvalidInput
from ftm_jobs.serve.proof import LEAST_ROUNDING, BaseMeasurement, mean_difference, unexpected

LIKELIEST = {"a": -1.0, "b": -2.0}


def shifted(nats: float) -> list[dict[str, float]]:
    return [{token: value - nats for token, value in LIKELIEST.items()}]


def test_rounding_is_the_largest_difference_between_batches_and_at_least_the_dtypes() -> None:
    assert BaseMeasurement(([LIKELIEST], [LIKELIEST])).rounding == LEAST_ROUNDING
    assert BaseMeasurement(([LIKELIEST], shifted(0.02), shifted(0.05))).rounding == pytest.approx(0.05)


def test_an_effect_is_measured_from_the_nearest_batch() -> None:
    base = BaseMeasurement(([LIKELIEST], shifted(0.02)))
    assert not base.effect(shifted(0.03)).is_seen
    assert base.effect(shifted(0.5)).is_seen
    assert base.effect(shifted(0.5)).difference == pytest.approx(0.48)


def test_a_token_that_is_no_longer_among_the_likeliest_counts_as_the_least_of_them() -> None:
    assert mean_difference([LIKELIEST], [{"a": -1.0, "c": -3.0}]) == pytest.approx(0.5)
    assert mean_difference([{"a": -9.0}], [{"c": -3.0}]) == 0.0


def test_an_adapter_that_gives_no_numbers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="computes no numbers with it"):
        BaseMeasurement(([LIKELIEST], [LIKELIEST])).effect([{"a": float("nan"), "b": float("nan")}])


@pytest.mark.parametrize(
    ("prompt", "answer", "sentence"),
    [
        (WantedPrompt(prompt="Which?", expect=("45 days",)), "Within 45 Days.", None),
        (WantedPrompt(prompt="Which?", expect=("45 days",)), "Soon", '"Which?" was answered "Soon", without "45 days"'),
        (
            WantedPrompt(messages=({"role": "user", "content": "Who?"},), expect=("a", "z")),
            "a\nb",
            '"Who?" was answered "a b", without "z"',
        ),
        (WantedPrompt(prompt="Which?", expect=()), "", None),
    ],
)
def test_an_answer_holds_every_text_in_any_case(prompt: WantedPrompt, answer: str, sentence: str | None) -> None:
    assert unexpected(prompt, answer) == sentence
