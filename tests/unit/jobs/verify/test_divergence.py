"""Distances of two distributions: the module's example, and what must hold of any two."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_jobs.verify.figures.divergence import Divergence, perplexity, total

LOGITS = st.lists(st.lists(st.floats(-30, 30), min_size=5, max_size=5), min_size=1, max_size=7)


def measured(reference: list[list[float]], other: list[list[float]]) -> Divergence:
    found = Divergence()
    found.add(torch.tensor(reference), torch.tensor(other), torch.zeros(len(reference) - 1, dtype=torch.long))
    return found


def test_the_example_of_the_module() -> None:
    p, q = [math.log(x) for x in (0.5, 0.3, 0.2)], [math.log(x) for x in (0.3, 0.5, 0.2)]
    found = measured([p], [q])
    assert found.kl == pytest.approx(0.5 * math.log(5 / 3) + 0.3 * math.log(3 / 5), rel=1e-5)
    (flip,) = found.flips
    assert flip.margin == pytest.approx(0.2, rel=1e-5)
    assert (flip.wanted, flip.given) == (0, 1)
    assert (found.same_top, found.flipped) == (0, 1)


@settings(max_examples=40, deadline=None)
@given(LOGITS)
def test_a_model_does_not_differ_from_itself(logits: list[list[float]]) -> None:
    found = measured(logits, logits)
    assert (found.kl, found.same_top, found.flips) == (0, 1, [])
    assert math.isclose(found.reference_perplexity, found.other_perplexity) or len(logits) == 1


@settings(max_examples=40, deadline=None)
@given(LOGITS, st.data())
def test_divergence_is_never_negative_and_blind_to_what_softmax_is_blind_to(
    logits: list[list[float]], data: st.DataObject
) -> None:
    other = data.draw(
        st.lists(st.lists(st.floats(-30, 30), min_size=5, max_size=5), min_size=len(logits), max_size=len(logits))
    )
    shifted = [[value + 7 for value in row] for row in other]
    assert measured(logits, other).kl >= 0
    assert measured(logits, shifted).kl == pytest.approx(measured(logits, other).kl, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(LOGITS, st.integers(1, 6))
def test_it_does_not_matter_how_positions_are_cut(logits: list[list[float]], size: int) -> None:
    reference = torch.tensor(logits)
    other, following = reference.flip(-1), torch.arange(len(logits)) % 5
    whole, parts = Divergence(), Divergence()
    whole.add(reference, other, following)
    for at in range(0, len(logits), size):
        parts.add(reference[at : at + size], other[at : at + size], following[at : at + size], 0, at)
    assert parts.kl == pytest.approx(whole.kl)
    assert parts.other_perplexity == pytest.approx(whole.other_perplexity)
    assert (parts.tokens, parts.agreed, parts.scored, parts.flips) == (
        *(whole.tokens, whole.agreed, whole.scored),
        whole.flips,
    )
    assert total([whole]).kl == whole.kl


def test_a_padded_vocabulary_is_compared_on_what_both_have() -> None:
    assert measured([[1.0, 2.0]], [[1.0, 2.0, 50.0]]).kl == pytest.approx(0)


def test_what_is_not_a_number_is_no_small_divergence() -> None:
    assert math.isnan(measured([[1.0, 2.0]], [[math.nan, 2.0]]).kl)


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices() -> None:
    assert perplexity(3 * math.log(50), 3) == pytest.approx(50)
    assert perplexity(1e9, 1) == math.inf
