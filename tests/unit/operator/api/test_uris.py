"""What the API accepts as a URI is what the Jobs can parse, and the other way round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.errors import InvalidInput
from ftm_jobs.source import parse_uri
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.spec import HUGGING_FACE, S3, Base

MAKINGS = "s3://hf:file/-_.@aAb01,\\ %~"


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


@given(st.one_of(st.from_regex(S3, fullmatch=True), st.from_regex(HUGGING_FACE, fullmatch=True)))
def test_the_jobs_can_parse_whatever_the_api_accepts(uri: str) -> None:
    if api_accepts(uri):
        assert jobs_accept(uri)


@given(st.sampled_from(["s3://models/", "s3://", "hf://org/name", "hf://", ""]), st.text(MAKINGS, max_size=12))
def test_near_misses_are_refused_by_the_api_before_a_job_sees_them(prefix: str, rest: str) -> None:
    if api_accepts(prefix + rest):
        assert jobs_accept(prefix + rest)


@pytest.mark.parametrize("uri", ["s3://models", "s3://models/base/", "hf://org/name@refs/pr/1", "file:///models/base"])
def test_both_accept_the_usual_forms(uri: str) -> None:
    assert api_accepts(uri)
    assert jobs_accept(uri)
