"""Input hashes of every step stay as they are: one that changed would run the step again for every user's models."""

from typing import Any

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.errors import parse
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelSpec
from ftm_operator.planning.decision import Decision, decide
from ftm_operator.planning.input_hashes import (
    inspection_input_hash,
    merged_key,
    plan_input_hash,
    publication_input_hash,
    quantization_input_hash,
    verification_input_hash,
)
from ftm_operator.resources.job import build_id
from tests.unit.operator.objects import facts, resource

GGUF = {
    "method": "GGUF",
    "gguf": {"type": "Q8_0", "importanceMatrix": True},
    "calibration": {"uri": "s3://models/text.jsonl"},
}
AWQ = {"method": "AWQ"}
ARTIFACT = Artifact(key="merge-1", uri="s3://models/built/merge-1", digest="sha256:7", total_bytes=10, files=2)


def spec(**fields: Any) -> FineTunedModelSpec:
    return parse(FineTunedModel, resource(**fields)).spec


def decision(wanted: FineTunedModelSpec) -> Decision:
    found = decide(wanted, facts().base, 1)
    assert isinstance(found, Decision)
    return found


def test_the_hash_of_an_inspection() -> None:
    assert inspection_input_hash(spec(), None) == "32e16d1350ab4b16"
    assert inspection_input_hash(spec(), "2026-01-01") == "0e7cf2aaa2b880ee"


def test_the_key_of_a_merge() -> None:
    assert merged_key(spec(), facts()) == "merge-13aa14bd57981166791744434b99ec9b"
    assert build_id("merge-1", "s3://models/built") == "57cd0baf40de015d"


def test_the_hash_of_a_plan() -> None:
    assert plan_input_hash(spec(), facts(), None) == "9438e6ecb653f7aa"


@pytest.mark.parametrize(("quantization", "expected"), [(GGUF, "9cb42e7ede3c72a8"), (AWQ, "fb78677b7472748a")])
def test_the_hash_of_a_quantization(quantization: dict[str, object], expected: str) -> None:
    wanted = spec(quantization=quantization)
    assert quantization_input_hash(wanted, decision(wanted), "merge-1", None) == expected


def test_the_hash_of_a_verification() -> None:
    wanted = spec(verification={"prompts": [{"prompt": "Refunds?", "expect": ["45 days"]}], "maxDivergence": 0.5})
    assert verification_input_hash(wanted, [ARTIFACT], None) == "1b7a291d0f4e6b63"


def test_the_hash_of_a_publication() -> None:
    assert publication_input_hash("registry.example.com/models", ARTIFACT, None) == "9037285821b0c6d5"
