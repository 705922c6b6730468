"""Turns an S3 client's errors into a step's own: one table from the server's codes to reasons and sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.runtime.caller import advice, take_the_new_one
from ftm_jobs.stores.retry import TransientError

_DENIED = {
    "AccessDenied",
    "AllAccessDisabled",
    "AccountProblem",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "Unauthorized",
    "401",
    "403",
}
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}


@contextmanager
def explained(bucket: str, label: str) -> Iterator[None]:
    """Turns the client's errors in the block into InvalidInput or Failed."""
    try:
        yield
    except (ClientError, BotoCoreError, TransientError) as error:
        raise explain(error, bucket, label) from error


def code_of(error: ClientError) -> str:
    """Returns the server's code, as in NoSuchKey; empty where it gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def explain(error: Exception, bucket: str, label: str) -> InvalidInput | Failed:
    """Returns the step's error for the client's; `label` is the URI of the object or prefix that was asked for."""
    if isinstance(error, ClientError):
        return _answered(error, code_of(error), bucket, label)
    if isinstance(error, _NO_CREDENTIALS):
        return InvalidInput(
            Reason.ACCESS_DENIED,
            f"{label}: there are no credentials ({error}): {_give_credentials()}",
        )
    if isinstance(error, ParamValidationError | ValueError):
        return InvalidInput(Reason.INVALID_URI, f"{label}: {' '.join(str(error).split())}")
    return Failed(Reason.STORE_UNAVAILABLE, f"{label}: {error}")


def _answered(error: ClientError, code: str, bucket: str, label: str) -> InvalidInput | Failed:
    metadata: Any = error.response.get("ResponseMetadata", {})
    text = f"{code} {error.response.get('Error', {}).get('Message', '')}".strip()
    if code == "NoSuchBucket":
        return InvalidInput(
            Reason.BUCKET_NOT_FOUND, f'{label}: the store has no bucket "{bucket}": create it or correct the URI'
        )
    if code in _DENIED:
        return InvalidInput(
            Reason.ACCESS_DENIED,
            f"{label}: the store refuses these credentials ({text}): correct {_the_keys()} or what they may do",
        )
    if code in _WRONG_REGION:
        return InvalidInput(
            Reason.INVALID_URI,
            f"{label}: the bucket is in another region ({text}): set AWS_REGION{advice(' in the Secret', '')}",
        )
    if code in ("NoSuchKey", "404", "NotFound"):
        return InvalidInput(Reason.MISSING_FILE, f"{label} does not exist: upload it or correct the URI")
    if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
        return InvalidInput(
            Reason.SOURCE_CHANGED,
            f"{label} was replaced while it was read: {take_the_new_one()}",
        )
    status = metadata.get("HTTPStatusCode", "no status")
    return Failed(Reason.STORE_UNAVAILABLE, f"{label}: the store answered {status} {text}")


def _give_credentials() -> str:
    return advice(
        "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod's service account an identity",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile that is logged in, or "
        "AWS_NO_SIGN_REQUEST=true for a public bucket",
    )


def _the_keys() -> str:
    return advice("the Secret's keys", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)")
