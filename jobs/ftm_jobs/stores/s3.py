"""Any S3-compatible object store.

Credentials from a Secret are used alone: neither the process's environment nor its endpoint mixes in. Every read
names the ETag that was listed, so an object replaced meanwhile is noticed and never half read.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from ftm_jobs.errors import Interrupted, InvalidInput, Reason
from ftm_jobs.stores.interface import NotCopied, Stat, Store, WritableStore, Writer
from ftm_jobs.stores.retry import TransientError, retry
from ftm_jobs.stores.s3_client import connect
from ftm_jobs.stores.s3_copy import SMALLEST_COPY_BYTES, Original, ServerSideCopy, is_refusal
from ftm_jobs.stores.s3_errors import code_of, explain
from ftm_jobs.stores.s3_upload import MultipartUpload
from ftm_jobs.stores.source import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import MultipartUploadTypeDef

SHA256_METADATA = "sha256"
_BODY_ERRORS = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError, OSError)


class S3Store(WritableStore):
    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._client = client
        self._etags: dict[str, str] = {}
        self._not_copied_from: set[str] = set()
        """Buckets that these keys may not read, or that the server does not copy from."""

    @classmethod
    def open(cls, location: Location, credentials: Mapping[str, str] | None) -> "S3Store":
        with _explained(location.root, location.uri):
            try:
                return cls(connect(credentials), location.root, location.prefix)
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

    def children(self) -> set[str]:
        found: set[str] = set()
        with self._explained(self.uri):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"):
                found |= {each["Prefix"].removeprefix(self.prefix)[:-1] for each in page.get("CommonPrefixes", [])}
            below = (upload["Key"].removeprefix(self.prefix) for upload in self._uploads())
            return found | {key.partition("/")[0] for key in below if "/" in key}

    def last_written(self) -> datetime | None:
        with self._explained(self.uri):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"
            )
            times = [found["LastModified"] for page in pages for found in page.get("Contents", [])]
            return max([*times, *(upload["Initiated"] for upload in self._uploads())], default=None)

    @contextmanager
    def writer(self, path: str, size: int) -> Iterator[Writer]:
        upload = MultipartUpload(self._client, self.bucket, self.prefix + path, size)
        with self._explained(self.describe(path)), _ended(upload):
            yield upload

    def copier(self, source: Store, stat: Stat) -> AbstractContextManager[Writer] | None:
        """Between buckets of one endpoint, of an object that was listed and declares a sha256, as its copy does."""
        if not isinstance(source, S3Store) or stat.sha256 is None or stat.size < SMALLEST_COPY_BYTES:
            return None
        same_server = source._client.meta.endpoint_url == self._client.meta.endpoint_url
        if not same_server or stat.path not in source._etags or source.bucket in self._not_copied_from:
            return None
        original = Original(source.bucket, source.prefix + stat.path, source._etags[stat.path], stat)
        metadata = {SHA256_METADATA: stat.sha256}
        copy = ServerSideCopy(self._client, original, self.bucket, self.prefix + stat.path, metadata)
        if not copy.may_read():
            self._not_copied_from.add(source.bucket)
            return None
        return self._copying(copy, original)

    @contextmanager
    def _copying(self, copy: ServerSideCopy, original: Original) -> Iterator[Writer]:
        with self._explained(self.describe(original.stat.path)):
            try:
                with _ended(copy):
                    yield copy
            except ClientError as error:
                if not is_refusal(error):
                    raise
                self._not_copied_from.add(original.bucket)
                raise NotCopied(f"the store does not copy from bucket {original.bucket} ({code_of(error)})") from error

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
            for left in self._uploads():
                if "/" in left["Key"].removeprefix(self.prefix):
                    continue  # of a folder in this one
                try:
                    self._client.abort_multipart_upload(Bucket=self.bucket, Key=left["Key"], UploadId=left["UploadId"])
                except ClientError as error:
                    if code_of(error) != "NoSuchUpload":
                        raise
                count += 1
        return count

    def _uploads(self) -> "Iterator[MultipartUploadTypeDef]":
        """Unfinished ones in this folder and below. Not every server heeds the prefix."""
        pages = self._client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
            yield from (upload for upload in page.get("Uploads", []) if upload["Key"].startswith(self.prefix))

    def _explained(self, what: str) -> Any:
        return _explained(self.bucket, what)


@contextmanager
def _ended(upload: MultipartUpload | ServerSideCopy) -> Iterator[None]:
    """Completes it when the block ends well, else removes it."""
    try:
        yield
        upload.complete()
    except Interrupted:
        upload.abort(wait=False)
        raise
    except BaseException:
        upload.abort(wait=True)
        raise


@contextmanager
def _explained(bucket: str, what: str) -> Iterator[None]:
    """Turn the client's errors into the step's own."""
    try:
        yield
    except (ClientError, BotoCoreError, TransientError) as error:
        raise explain(error, bucket, what) from error
