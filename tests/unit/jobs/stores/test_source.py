"""SOURCE on the command line."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.source import Location, Source, parse_source, parse_uri

DIGEST = "sha256:" + "0a" * 32


def test_every_part_of_a_source_is_read() -> None:
    assert parse_source(f"s3://models/a/b,scale=0.5,digest={DIGEST},credentials=/secrets/a", scalable=True) == Source(
        Location("s3://models/a/b", "s3", "models", "a/b"), 0.5, DIGEST, Path("/secrets/a")
    )


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("s3://models", Location("s3://models", "s3", "models")),
        ("s3://models/a/", Location("s3://models/a", "s3", "models", "a")),
        ("hf://org/name", Location("hf://org/name", "hf", "org/name")),
        ("hf://org/name@refs/pr/1", Location("hf://org/name@refs/pr/1", "hf", "org/name", revision="refs/pr/1")),
        ("file:///a/b%20c/", Location("file:///a/b%20c", "file", "/a/b c")),
        ("file:///a/b c", Location("file:///a/b%20c", "file", "/a/b c")),
        ("file://localhost/a", Location("file:///a", "file", "/a")),
    ],
)
def test_each_scheme_is_read(uri: str, location: Location) -> None:
    assert parse_uri(uri) == location


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models/a", '"models/a" is not a URI of a store: write hf://org/name[@revision]'),
        ("gs://models/a", '"gs://models/a" is not a URI of a store'),
        ("org/name", "or file:///path; the Hub's repository is hf://org/name"),
        ("https://huggingface.co/org/name/tree/main", "; the Hub's repository is hf://org/name"),
        ("s3://b/x", 'has "b" where a bucket\'s name must be, of 3 to 63 characters and not of 1: write s3://'),
        (f"s3://{64 * 'b'}/x", "of 3 to 63 characters and not of 64"),
        ("s3://Models/x", "which has upper-case letters"),
        ("s3://my+models/x", "which has '+', not only letters, digits, dots and hyphens"),
        ("s3://-models/x", "which begins or ends with neither a letter nor a digit"),
        ("s3://models/a,scal=2", '"scal=2" in "s3://models/a,scal=2" is not one of scale=…'),
        ("s3://models/a,scal=2", ": did you mean scale=…?"),
        ("s3://", 'has "" where a bucket\'s name must be'),
        ("s3://UPPER/a", 'has "UPPER" where a bucket\'s name must be'),
        ("s3://models/../other", 'has an empty, "." or ".." part in its prefix'),
        ("s3://models//a", 'has an empty, "." or ".." part in its prefix'),
        ("hf://name", '"hf://name" is not hf://org/name[@revision]'),
        ("hf://org/name/file", "since it names a folder in a repository: download that folder and name it by its path"),
        ("hf://org/name@", 'has "" where a branch, a tag or a commit must be'),
        ("hf://org/name@a..b", 'has "a..b" where a branch'),
        ("file://host/a", '"file://host/a" names a host: write file:///absolute/path'),
        ("file:///a/../b", 'has a ".", a ".." or a zero byte in its path'),
        ("file:///a/%2e%2e/b", 'has a ".", a ".." or a zero byte in its path'),
        ("s3://models/a,colour=red", '"colour=red" in "s3://models/a,colour=red" is not one of scale=…, digest=…'),
        ("s3://models/a,scale=1,scale=2", "gives scale twice: keep one"),
        ("s3://models/a,scale=none", 'scale "none" in'),
        ("s3://models/a,scale=inf", 'scale "inf" in'),
        ("s3://models/a,scale=0", "is not a finite number other than 0"),
        ("s3://models/a,digest=sha256:12", 'digest "sha256:12" in'),
    ],
)
def test_a_wrong_source_is_refused_naming_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_source(text, scalable=True)
    assert caught.value.reason is Reason.INVALID_URI
    assert sentence in caught.value.message


def test_only_an_adapter_has_a_scale() -> None:
    with pytest.raises(InvalidInput, match="is not one of digest=…, credentials=…"):
        parse_source("s3://models/a,scale=2")


@given(st.text())
def test_no_text_crashes_the_parser(text: str) -> None:
    with suppress(InvalidInput):
        parse_source(text, scalable=True)


@given(st.sampled_from(["s3://", "hf://", "file://", "file:///"]), st.text())
def test_no_uri_leads_out_of_its_root(scheme: str, rest: str) -> None:
    try:
        location = parse_uri(scheme + rest)
    except InvalidInput:
        return
    assert ".." not in (location.prefix or location.root).split("/")
