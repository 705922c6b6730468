"""An S3 client is made with the options that its endpoint needs."""

from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED

from ftm_jobs.errors import InvalidInput
from ftm_jobs.stores.credentials import read_credentials
from ftm_jobs.stores.s3_client import connect

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def config(values: dict[str, str]) -> Any:
    return connect(values).meta.config


def write(folder: Path, values: dict[str, str]) -> Path:
    for name, value in values.items():
        (folder / name).write_text(value)
    return folder


def test_a_server_of_ones_own_is_asked_by_path_unless_told_otherwise() -> None:
    own = KEYS | {"AWS_ENDPOINT_URL": "http://store.test:9000"}
    assert config(KEYS).s3["addressing_style"] == "auto"
    assert config(own).s3["addressing_style"] == "path"
    assert config(own | {"AWS_S3_ADDRESSING_STYLE": "virtual"}).s3["addressing_style"] == "virtual"


def test_a_region_is_taken_from_the_secret() -> None:
    assert connect(KEYS | {"AWS_REGION": "eu-central-1"}).meta.region_name == "eu-central-1"


def test_a_public_bucket_is_read_without_a_signature() -> None:
    assert config({"AWS_NO_SIGN_REQUEST": "true", "AWS_REGION": "eu-central-1"}).signature_version is UNSIGNED
    assert config(KEYS | {"AWS_NO_SIGN_REQUEST": "false"}).signature_version is not UNSIGNED


def test_keys_that_expire_are_sent_with_their_token() -> None:
    client: Any = connect(KEYS | {"AWS_SESSION_TOKEN": "token"})
    assert client._request_signer._credentials.token == "token"


def test_certificates_in_the_secret_are_trusted(tmp_path: Path) -> None:
    found = read_credentials(write(tmp_path, KEYS | {"AWS_CA_BUNDLE": CERTIFICATE}))
    assert found
    assert found["AWS_CA_BUNDLE"] == str(tmp_path / "AWS_CA_BUNDLE")
    client: Any = connect(found)
    assert client._endpoint.http_session._verify == str(tmp_path / "AWS_CA_BUNDLE")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"AWS_ACCESS_KEY_ID": "id"},
            "the credentials folder holds one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: give both, or neither",
        ),
        (
            KEYS | {"AWS_NO_SIGN_REQUEST": "true"},
            "the credentials folder holds keys and AWS_NO_SIGN_REQUEST, which uses none: remove one of the two",
        ),
        ({"AWS_NO_SIGN_REQUEST": "perhaps"}, 'AWS_NO_SIGN_REQUEST is "perhaps": write true or false'),
        (
            KEYS | {"AWS_S3_ADDRESSING_STYLE": "dns"},
            'AWS_S3_ADDRESSING_STYLE is "dns": write path, virtual or auto',
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        connect(values)
    assert caught.value.message.startswith(sentence)
