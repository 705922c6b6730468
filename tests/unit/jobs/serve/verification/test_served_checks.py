"""Each figure of a served engine is held to a bound that rounding explains, and what differs is named."""

import math
import random

import httpx2
import pytest

from ftm_jobs.contract.verification import ReferenceConversation, ReferenceSpelling, ReferenceText
from ftm_jobs.errors import Reason
from ftm_jobs.serve.verification import checks
from ftm_jobs.serve.verification.engines import (
    LIKELY,
    NOT_FINITE,
    PLACES,
    EngineRefused,
    VllmEngine,
    asked_places,
)

TOKENS = 400


def text(effect: float = 0.3, rounding: float = 0.05, tokens: int = TOKENS) -> ReferenceText:
    numbers = random.Random(tokens)
    return ReferenceText(
        tokens=tuple(range(tokens + 1)),
        logprobs=tuple(-numbers.expovariate(0.5) for _ in range(tokens)),
        rounding=tuple(abs(numbers.gauss(0, rounding)) for _ in range(tokens)),
        effect=tuple(numbers.gauss(0, effect) for _ in range(tokens)),
    )


def noise(size: float) -> dict[int, float]:
    numbers = random.Random(7)
    return {place: numbers.gauss(0, size) for place in range(TOKENS)}


def test_an_engine_that_rounds_as_the_reference_does_passes() -> None:
    found = checks.logprobs([text()], [noise(0.05)])
    assert found.check.passed
    assert found.check.value == pytest.approx(found.check.bound / 2, rel=0.15)
    assert "400 tokens differ" in found.sentence


def test_an_engine_that_rounds_with_two_bits_less_is_caught() -> None:
    found = checks.logprobs([text()], [noise(0.2)])
    assert not found.check.passed
    assert "more than the" in found.sentence


def test_rounding_as_bfloat16_is_too_much_for_an_engine_that_should_compute_in_float16() -> None:
    assert not checks.logprobs([text()], [noise(0.05)], checks.Precision("float16")).check.passed
    assert checks.logprobs([text()], [noise(0.05 / 8)], checks.Precision("float16")).check.passed


@pytest.mark.parametrize(
    ("cache", "factor"), [("auto", 1), ("bfloat16", 1), ("fp8", 16), ("fp8_e5m2", 32), ("nvfp4", 64)]
)
def test_keys_and_values_in_fewer_bits_widen_the_bound_and_are_named(cache: str, factor: int) -> None:
    told = checks.Precision("bfloat16", cache)
    found = checks.logprobs([text()], [noise(0.05 * factor)], told)
    assert found.check.passed
    assert not checks.logprobs([text()], [noise(0.05 * factor * 4)], told).check.passed
    assert (f"rounding with keys and values in {cache} explains" in found.sentence) == (factor > 1)


def test_an_effect_that_drowns_in_the_rounding_of_keys_and_values_decides_nothing() -> None:
    assert checks.adapter([text(0.1)], [noise(0.05)])
    assert checks.adapter([text(0.1)], [noise(0.05)], checks.Precision(cache="fp8")) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_caught(value: float) -> None:
    found = checks.logprobs([text()], [{0: value}])
    assert (found.check.passed, found.check.value) == (False, checks.NOT_FINITE)
    assert "the engine's values overflow; check its dtype" in found.sentence
    assert checks.adapter([text()], [{0: value}]) is None


def test_vllm_that_cannot_write_its_log_probabilities_as_json_has_some_that_are_not_finite() -> None:
    """It refuses a NaN with Python's own words, and any other trouble is none of the model's."""
    (found,) = answering(400, {"error": {"message": NOT_FINITE, "code": 400}}).differences([text(tokens=3)])
    assert list(found) == [0, 1, 2]
    assert all(map(math.isnan, found.values()))
    with pytest.raises(EngineRefused, match="no such model"):
        answering(400, {"error": {"message": "no such model"}}).differences([text(tokens=3)])


def answering(status: int, body: object) -> VllmEngine:
    """Returns a client of an engine with one answer to all that it is asked."""
    engine = VllmEngine("http://engine", "model", None)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=body))
    engine._client = httpx2.Client(base_url="http://engine", transport=transport)
    return engine


def test_an_engine_that_serves_the_base_shows_nothing_of_the_adapter() -> None:
    reference = text()
    base = {place: noise(0.05)[place] - effect for place, effect in enumerate(reference.effect)}
    found, sound = checks.adapter([reference], [base]), checks.adapter([reference], [noise(0.05)])
    assert found
    assert not found.check.passed
    assert found.check.value == pytest.approx(1, abs=0.05)
    assert "it may serve the base or another adapter" in found.sentence
    assert sound
    assert sound.check.value == pytest.approx(0, abs=0.05)
    assert sound.check.passed


def test_an_adapter_of_twice_the_scale_is_caught() -> None:
    reference = text()
    found = checks.adapter([reference], [dict(enumerate(reference.effect))])
    assert found
    assert not found.check.passed
    assert "the engine shows 200% of what the adapters changed" in found.sentence


@pytest.mark.parametrize("effect", [0.0, 0.001])
def test_an_effect_that_drowns_in_rounding_decides_nothing(effect: float) -> None:
    assert checks.adapter([text(effect)], [noise(0.05)]) is None


def test_a_text_with_other_tokens_is_named_with_both() -> None:
    spellings = [ReferenceSpelling(text="abc", tokens=(1, 2, 3)), ReferenceSpelling(text="d", tokens=(4,))]
    found = checks.tokenizer(spellings, [[1, 9, 3], [4]])
    assert found.check.value == 1
    assert "'abc' as tokens [9, 3] from the 2. on, not [2, 3]" in found.sentence
    assert checks.tokenizer(spellings, [[1, 2, 3], [4]]).check.passed


def test_a_conversation_that_ends_early_is_named() -> None:
    conversation = ReferenceConversation(messages=({"role": "user", "content": "Hi"},), tokens=(1, 2, 3))
    found = checks.chat_template([conversation], [[1, 2]])
    assert not found.check.passed
    assert "the conversation that ends in 'Hi' as tokens [] from the 3. on, not [3]" in found.sentence


def test_the_verdict_says_what_failed_and_nothing_else() -> None:
    sound, missing = checks.answers([], 2), checks.answers(['the answer to "Q" lacks "45 days"'], 2)
    assert checks.summary([sound, sound])[0] == Reason.SERVED_AS_VERIFIED
    reason, message = checks.summary([sound, missing])
    assert reason == Reason.SERVED_DIFFERS
    assert message == 'the answer to "Q" lacks "45 days", which the verified model said: check the engine\'s flags'


def test_llama_server_is_asked_where_the_token_is_among_the_likely_ones() -> None:
    texts = [text(tokens=300), text(tokens=500)]
    places = asked_places(texts)
    assert len(set(places)) == PLACES
    assert {number for number, _ in places} == {0, 1}
    assert all(texts[number].logprobs[place] >= math.log(LIKELY) for number, place in places)
