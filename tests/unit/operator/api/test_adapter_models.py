"""A FineTunedAdapter's spec: what it may say, and which sentence answers what it may not."""

from typing import Any

import pytest

from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter, may_share_a_name
from tests.unit.operator.adapters import adapter
from tests.unit.operator.api.adapter_refusals import EVERYTHING, REFUSED


@pytest.mark.parametrize(("spec", "sentence"), REFUSED)
def test_what_is_wrong_is_refused_in_a_sentence(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        parse(FineTunedAdapter, adapter("billing", **spec))
    assert sentence in str(refusal.value)


def test_everything_that_may_be_said_is_read_back() -> None:
    assert parse(FineTunedAdapter, adapter("billing") | {"spec": EVERYTHING}).spec.to_json() == EVERYTHING


def test_a_name_is_its_own_unless_the_spec_names_another() -> None:
    assert parse(FineTunedAdapter, adapter("billing")).served_name == "billing"
    assert parse(FineTunedAdapter, adapter("billing", servedName="b")).served_name == "b"


def test_a_stored_status_that_cannot_be_read_is_left_out() -> None:
    stored = adapter("billing") | {"status": {"facts": {"rank": "x"}, "servedName": "billing"}}
    status = parse(FineTunedAdapter, stored).status
    assert status
    assert (status.facts, status.served_name) == (None, "billing")


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [("a", "a", True), ("a", "a-12345678", True), ("a-12345678", "a", True), ("a", "ab", False), ("a-b", "a-c", False)],
)
def test_names_that_may_meet(one: str, other: str, *, may: bool) -> None:
    assert may_share_a_name(adapter("x", servedName=one), adapter("y", servedName=other)) is may
