"""Credentials are found as the kubelet finds them, in what `docker login` and `kubectl create secret` write."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.errors import InvalidInput
from ftm_jobs.registry.login import SECRET_KEY, Login, read_login
from ftm_jobs.registry.repository import PLAIN_HTTP, Repository, parse_repository

MODELS = Repository("registry.example.com", "team/models")


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def secret(folder: Path, auths: Any) -> Path:
    (folder / SECRET_KEY).write_text(json.dumps({"auths": auths}))
    return folder


@pytest.mark.parametrize(
    "key",
    [
        "registry.example.com",
        "https://registry.example.com",
        "https://registry.example.com/v2/",
        "registry.example.com/",
    ],
)
def test_a_registry_is_named_in_several_ways(tmp_path: Path, key: str) -> None:
    assert read_login(secret(tmp_path, {key: auth("me:pass:word")}), MODELS) == Login("me", "pass:word")


def test_the_longest_name_that_fits_counts(tmp_path: Path) -> None:
    auths = {
        "registry.example.com": auth("all:1"),
        "registry.example.com/team": auth("team:2"),
        "registry.example.com/team/model": auth("other:3"),
    }
    assert read_login(secret(tmp_path, auths), MODELS) == Login("team", "2")


def test_a_name_and_a_password_may_stand_apart_and_a_token_in_their_place(tmp_path: Path) -> None:
    apart = {"registry.example.com": {"username": "me", "password": "word"}}
    assert read_login(secret(tmp_path, apart), MODELS) == Login("me", "word")
    token = {"registry.example.com": {"identitytoken": "long"}}
    assert read_login(secret(tmp_path, token), MODELS) == Login(identity_token="long")


def test_docker_hub_has_a_name_of_its_own(tmp_path: Path) -> None:
    hub = parse_repository("docker.io/team/models")
    assert read_login(secret(tmp_path, {"https://index.docker.io/v1/": auth("me:word")}), hub) == Login("me", "word")
    assert hub.address == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("auths", "message"),
    [
        ({}, "has credentials for no registry, not for registry.example.com: add them"),
        ({"registry.example.com": {"auth": "&"}}, "the auth for registry.example.com is not base64 of user:password"),
        ([], "has auths that are no objects: write it anew"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said(tmp_path: Path, auths: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_login(secret(tmp_path, auths), MODELS)


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=rf"credentials folder {tmp_path} has no {SECRET_KEY}"):
        read_login(tmp_path, MODELS)


def test_a_password_is_in_no_representation() -> None:
    assert "word" not in repr(Login("me", "word", "word"))


def test_a_registry_is_asked_by_http_on_this_machine_or_where_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_repository("localhost:5000/models").address == "http://localhost:5000"
    assert parse_repository("127.0.0.1:5000/models").address == "http://127.0.0.1:5000"
    assert parse_repository("localhost.example.com/models").address == "https://localhost.example.com"
    monkeypatch.setenv(PLAIN_HTTP, "registry:5000, other")
    assert parse_repository("registry:5000/models").address == "http://registry:5000"
    assert parse_repository("registry:5001/models").address == "https://registry:5001"


@pytest.mark.parametrize("name", ["models", "registry.example.com/", "registry.example.com/Models", "a/b:tag", "a//b"])
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a repository: write registry/repository"):
        parse_repository(name)
