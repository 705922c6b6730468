"""Reads credentials from a folder with one file per key, as Kubernetes mounts a Secret. Values are never logged."""

from pathlib import Path

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.caller import advice
from ftm_jobs.runtime.os_errors import words

KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_S3_ADDRESSING_STYLE",
    "AWS_NO_SIGN_REQUEST",
    "AWS_CA_BUNDLE",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "SSL_CERT_FILE",
)
CERTIFICATE_KEYS = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def read_credentials(directory: Path | None) -> dict[str, str] | None:
    """Returns the keys that the folder holds; None without a folder: the process's environment applies.

    CERTIFICATE_KEYS may hold certificates, or where they are: the value here is where they are.
    Raises InvalidInput (AccessDenied) when the folder is missing or holds none of KEYS.
    """
    if directory is None:
        return None
    try:
        values = {key: (directory / key).read_text().strip() for key in KEYS if (directory / key).is_file()}
    except (OSError, UnicodeDecodeError) as error:
        text = words(error) if isinstance(error, OSError) else "they are not UTF-8"
        raise InvalidInput(
            Reason.ACCESS_DENIED, f"credentials in {directory} cannot be read: {text}; correct the files"
        ) from error
    if not values:
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            f"credentials folder {directory} does not exist or holds none of {', '.join(KEYS)}: "
            + advice("create the Secret that is mounted there, with these keys", "write a file for each key into it"),
        )
    for key in CERTIFICATE_KEYS:
        if _CERTIFICATE in values.get(key, ""):
            values[key] = str(directory / key)
    return values
