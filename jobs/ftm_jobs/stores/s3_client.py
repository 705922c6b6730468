"""Makes a client of an S3 server, with its keys, its endpoint and its retries.

Keys of a Secret, or of the process's environment where there is none: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and,
with keys that expire, AWS_SESSION_TOKEN; AWS_REGION; AWS_ENDPOINT_URL; AWS_S3_ADDRESSING_STYLE, path or virtual (path
is the default with an endpoint of one's own); AWS_NO_SIGN_REQUEST=true for a public bucket; AWS_CA_BUNDLE, the
certificates to trust. The two never mix.
"""

import os
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.caller import advice
from ftm_jobs.stores.retry import LONGEST_DELAY_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DEFAULT_REGION = "us-east-1"
CONNECTIONS = 32
ATTEMPTS = 6
"""Attempts for a request that is answered by 5xx, 429 or nothing, with exponential backoff and jitter between them."""
CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60


def connect(credentials: Mapping[str, str] | None) -> "S3Client":
    """Returns a client. Raises InvalidInput (AccessDenied, InvalidURI) where the options contradict each other."""
    given = credentials or {}
    values = given if credentials else os.environ
    anonymous = _flag(values, "AWS_NO_SIGN_REQUEST")
    _check_keys(given, anonymous)
    endpoint = (None if credentials else os.environ.get("AWS_ENDPOINT_URL_S3")) or values.get("AWS_ENDPOINT_URL")
    session = boto3.Session(
        aws_access_key_id=given.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=given.get("AWS_SESSION_TOKEN") or None,
    )
    config = Config(
        s3={"addressing_style": _addressing_style(values, bool(endpoint))},
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=credentials is not None,  # type: ignore[call-arg]  # not in the stub
    )
    if anonymous:
        config = config.merge(Config(signature_version=UNSIGNED))
    client = session.client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=values.get("AWS_REGION") or session.region_name or DEFAULT_REGION,
        verify=given.get("AWS_CA_BUNDLE") or None,
        config=config,
    )
    delay: Any = _delay_after_too_many_requests  # the stub knows no handler that answers
    client.meta.events.register("needs-retry.s3", delay)
    return client


def _delay_after_too_many_requests(response: Any, attempts: int, **_: Any) -> float | None:
    """Returns the seconds until the next attempt; botocore waits by itself after other statuses, but not after 429."""
    if response is None or response[0].status_code != HTTPStatus.TOO_MANY_REQUESTS or attempts >= ATTEMPTS:
        return None
    return random.uniform(0, min(LONGEST_DELAY_SECONDS, 2 ** (attempts - 1)))


def _check_keys(given: Mapping[str, str], anonymous: bool) -> None:
    has_id, has_secret = bool(given.get("AWS_ACCESS_KEY_ID")), bool(given.get("AWS_SECRET_ACCESS_KEY"))
    if has_id != has_secret:
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            f"the {_credentials()} holds one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: give both, or neither for "
            + advice("the pod's own identity", "an identity of this machine"),
        )
    if anonymous and has_id:
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            f"the {_credentials()} holds keys and AWS_NO_SIGN_REQUEST, which uses none: remove one of the two",
        )


def _credentials() -> str:
    return advice("Secret", "credentials folder")


def _addressing_style(values: Mapping[str, str], own_endpoint: bool) -> Literal["auto", "path", "virtual"]:
    style = values.get("AWS_S3_ADDRESSING_STYLE") or ("path" if own_endpoint else "auto")
    if style not in ("auto", "path", "virtual"):
        raise InvalidInput(
            Reason.INVALID_URI, f'AWS_S3_ADDRESSING_STYLE is "{style[:100]}": write path, virtual or auto'
        )
    return style  # type: ignore[return-value]  # narrowed by the check


def _flag(values: Mapping[str, str], name: str) -> bool:
    value = values.get(name, "").lower()
    if value not in ("", "true", "1", "yes", "false", "0", "no"):
        raise InvalidInput(Reason.ACCESS_DENIED, f'{name} is "{value[:100]}": write true or false')
    return value in ("true", "1", "yes")
