"""The API accepts as a URI what the Jobs can parse, and the other way round."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.errors import InvalidInput
from ftm_jobs.stores.source import parse_uri
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.spec.sources import CLAIM, HUGGING_FACE, S3, Base

ROOT = Path(__file__).parents[4]
MAKINGS = "s3://hf:pvc:file/-_.@aAb01,\\ %~"


def api_accepts(uri: str) -> bool:
    try:
        parse(Base, {"uri": uri})
    except InvalidManifest:
        return False
    return True


def jobs_accept(uri: str) -> bool:
    try:
        parse_uri(uri)
    except InvalidInput:
        return False
    return True


@given(st.one_of([st.from_regex(pattern, fullmatch=True) for pattern in (S3, HUGGING_FACE, CLAIM)]))
def test_the_jobs_can_parse_whatever_the_api_accepts(uri: str) -> None:
    if api_accepts(uri):
        assert jobs_accept(uri)


@given(
    st.sampled_from(["s3://models/", "s3://", "hf://org/name", "hf://", "pvc://models/", "pvc://", ""]),
    st.text(MAKINGS, max_size=12),
)
def test_near_misses_are_refused_by_the_api_before_a_job_sees_them(prefix: str, rest: str) -> None:
    if api_accepts(prefix + rest):
        assert jobs_accept(prefix + rest)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://models",
        "s3://models/base/",
        "pvc://models",
        "pvc://models.v1/a/b/",
        "hf://org/name@refs/pr/1",
        "file:///models/base",
    ],
)
def test_both_accept_the_usual_forms(uri: str) -> None:
    assert api_accepts(uri)
    assert jobs_accept(uri)


def test_the_charts_default_store_is_held_to_what_the_api_accepts() -> None:
    schema = json.loads((ROOT / "charts/ftm-operator/values.schema.json").read_text())
    pattern = schema["properties"]["artifacts"]["properties"]["uri"]["pattern"]
    assert pattern == f"^$|^({S3}|{CLAIM})$"
