"""Any S3-compatible object store.

Credentials from a Secret are used alone: neither the process's environment nor its endpoint mixes in. Every read
names the ETag that was listed, so an object replaced meanwhile is noticed and never half read.
"""

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from ftm_jobs.errors import Interrupted, InvalidInput, Reason
from ftm_jobs.source import Location
from ftm_jobs.stores.interface import Stat, WritableStore, Writer
from ftm_jobs.stores.retry import TransientError, retry
from ftm_jobs.stores.s3_errors import code_of, explain
from ftm_jobs.stores.s3_upload import MultipartUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DEFAULT_REGION = "us-east-1"
CONNECTIONS = 32
SHA256_METADATA = "sha256"
_BODY_ERRORS = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError, OSError)


class S3Store(WritableStore):
    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._client = client
        self._etags: dict[str, str] = {}

    @classmethod
    def open(cls, location: Location, credentials: Mapping[str, str] | None) -> "S3Store":
        with _explained(location.root, location.uri):
            try:
                return cls(_client(credentials), location.root, location.prefix)
            except ValueError as error:
                text = f"{location.uri}: {error}: write AWS_ENDPOINT_URL as https://host[:port]"
                raise InvalidInput(Reason.INVALID_URI, text) from error

    def list(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        with self._explained(self.uri):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"):
                for found in page.get("Contents", []):
                    name = found["Key"].removeprefix(self.prefix)
                    if name:
                        sizes[name] = found["Size"]
                        self._etags[name] = found["ETag"]
        return sizes

    def stat(self, path: str) -> Stat:
        with self._explained(self.describe(path)):
            head = self._client.head_object(Bucket=self.bucket, Key=self.prefix + path, ChecksumMode="ENABLED")
        self._etags[path] = head["ETag"]
        checksum = head.get("ChecksumSHA256", "")
        declared = head["Metadata"].get(SHA256_METADATA, "").lower()
        if checksum and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in checksum:
            identity = f"sha256:{base64.b64decode(checksum).hex()}"
        elif len(declared) == 64 and all(digit in "0123456789abcdef" for digit in declared):
            identity = f"sha256:{declared}"
        else:
            identity = f"etag:{head['ETag'].strip(chr(34))}"
        return Stat(path, head["ContentLength"], identity)

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        if not len(buffer):
            return
        with self._explained(self.describe(path)):
            retry(lambda: self._read_once(path, offset, buffer), self.describe(path))

    def _read_once(self, path: str, offset: int, buffer: memoryview) -> None:
        condition: dict[str, Any] = {"IfMatch": self._etags[path]} if path in self._etags else {}
        found = self._client.get_object(
            Bucket=self.bucket,
            Key=self.prefix + path,
            Range=f"bytes={offset}-{offset + len(buffer) - 1}",
            **condition,
        )
        done = 0
        with found["Body"] as body:
            try:
                while done < len(buffer):
                    count = body.readinto(buffer[done:])  # type: ignore[arg-type]  # the stub asks for a file
                    if not count:
                        raise TransientError(f"answered {done} of {len(buffer)} bytes from {offset}")
                    done += count
            except _BODY_ERRORS as error:
                raise TransientError(f"broke off after {done} of {len(buffer)} bytes from {offset}: {error}") from error

    def child(self, name: str) -> "S3Store":
        return S3Store(self._client, self.bucket, self.prefix + name)

    @contextmanager
    def writer(self, path: str, size: int) -> Iterator[Writer]:
        upload = MultipartUpload(self._client, self.bucket, self.prefix + path, size)
        with self._explained(self.describe(path)):
            try:
                yield upload
                upload.complete()
            except Interrupted:
                upload.abort(wait=False)
                raise
            except BaseException:
                upload.abort(wait=True)
                raise

    def put_if_absent(self, path: str, data: bytes) -> bool:
        try:
            self._put(path, data, {"IfNoneMatch": "*"})
        except ClientError as error:
            if code_of(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                return False
            if code_of(error) not in ("NotImplemented", "501"):
                raise explain(error, self.bucket, self.describe(path)) from error
            if path in self.list():
                return False
            self.put(path, data)
        except BotoCoreError as error:
            raise explain(error, self.bucket, self.describe(path)) from error
        return True

    def put(self, path: str, data: bytes) -> None:
        with self._explained(self.describe(path)):
            self._put(path, data, {})

    def _put(self, path: str, data: bytes, condition: dict[str, Any]) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self._client.put_object(
            Bucket=self.bucket, Key=self.prefix + path, Body=data, Metadata={SHA256_METADATA: digest}, **condition
        )

    def delete(self, path: str) -> None:
        with self._explained(self.describe(path)):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + path)

    def abort_uploads(self) -> int:
        count = 0
        with self._explained(self.uri):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for left in page.get("Uploads", []):
                    if not left["Key"].startswith(self.prefix):
                        continue
                    try:
                        self._client.abort_multipart_upload(
                            Bucket=self.bucket, Key=left["Key"], UploadId=left["UploadId"]
                        )
                    except ClientError as error:
                        if code_of(error) != "NoSuchUpload":
                            raise
                    count += 1
        return count

    def _explained(self, what: str) -> Any:
        return _explained(self.bucket, what)


@contextmanager
def _explained(bucket: str, what: str) -> Iterator[None]:
    """Turn the client's errors into the step's own."""
    try:
        yield
    except (ClientError, BotoCoreError, TransientError) as error:
        raise explain(error, bucket, what) from error


def _client(credentials: Mapping[str, str] | None) -> "S3Client":
    endpoint = (credentials or os.environ).get("AWS_ENDPOINT_URL") or None
    if credentials is None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or endpoint
    given = credentials or {}
    if credentials and bool(given.get("AWS_ACCESS_KEY_ID")) != bool(given.get("AWS_SECRET_ACCESS_KEY")):
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            "the Secret holds one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: give both, or neither for the "
            "pod's own identity",
        )
    session = boto3.Session(
        aws_access_key_id=given.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=given.get("AWS_SESSION_TOKEN") or None,
    )
    region = given.get("AWS_REGION") or (None if credentials else os.environ.get("AWS_REGION")) or session.region_name
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or DEFAULT_REGION,
        config=Config(
            s3={"addressing_style": "path" if endpoint else "auto"},
            retries={"mode": "standard", "total_max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=CONNECTIONS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=credentials is not None,  # type: ignore[call-arg]  # not in the stub
        ),
    )
