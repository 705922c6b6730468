"""Reads and writes a folder of any S3-compatible object store.

Credentials from a Secret are used alone: neither the process's environment nor its endpoint mixes in. Every read
names the ETag that was listed, so an object replaced meanwhile is noticed and never half read.
"""

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.interface import PIECE_BYTES, NotCopied, Stat, Store, WritableStore, Writer
from ftm_jobs.stores.retry import TransientError, retry
from ftm_jobs.stores.s3_client import connect
from ftm_jobs.stores.s3_copy import SMALLEST_COPY_BYTES, Original, ServerSideCopy, is_refusal
from ftm_jobs.stores.s3_errors import code_of, explain, explained
from ftm_jobs.stores.s3_folder import S3Folder
from ftm_jobs.stores.s3_upload import MultipartUpload, ended
from ftm_jobs.stores.source import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

SHA256_METADATA = "sha256"
_BODY_ERRORS = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError, HTTPException, OSError)
_own = threading.local()


class S3Store(WritableStore):
    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._client = client
        self._folder = S3Folder(client, bucket, self.prefix)
        self._etags: dict[str, str] = {}
        self._not_copied_from: set[str] = set()
        """Buckets that these keys may not read, or that the server does not copy from."""

    @classmethod
    def open(cls, location: Location, credentials: Mapping[str, str] | None) -> "S3Store":
        with explained(location.root, location.uri):
            try:
                return cls(connect(credentials), location.root, location.prefix)
            except ValueError as error:
                text = f"{location.uri}: {error}: write AWS_ENDPOINT_URL as https://host[:port]"
                raise InvalidInput(Reason.INVALID_URI, text) from error

    def list(self) -> dict[str, int]:
        with self._explained(self.uri):
            files = self._folder.files()
        self._etags |= {name: file["ETag"] for name, file in files.items()}
        return {name: file["Size"] for name, file in files.items()}

    def folders(self) -> set[str]:
        with self._explained(self.uri):
            return self._folder.folders_of_files()

    def list_folder(self, name: str) -> dict[str, int]:
        with self._explained(self.uri):
            files = self._folder.files_below(name)
        self._etags |= {path: file["ETag"] for path, file in files.items()}
        return {path: file["Size"] for path, file in files.items()}

    def stat(self, path: str) -> Stat:
        with self._explained(self.describe(path)):
            head = self._client.head_object(Bucket=self.bucket, Key=self.prefix + path, ChecksumMode="ENABLED")
        self._etags[path] = head["ETag"]
        return Stat(path, head["ContentLength"], _identity(head))

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        if len(buffer):
            with self._explained(self.describe(path)):
                retry(lambda: _fill(buffer, self._range(path, offset, len(buffer))), self.describe(path))

    def read_pieces(self, path: str, offset: int, size: int, take: Callable[[memoryview], None]) -> None:
        """As all stores; one that breaks off goes on after the last piece."""
        piece = _own_piece()
        done = 0

        def go_on() -> None:
            nonlocal done
            with self._range(path, offset + done, size - done) as read:
                while done < size:
                    count = read(piece[: size - done])
                    take(piece[:count])
                    done += count

        if size:
            with self._explained(self.describe(path)):
                retry(go_on, self.describe(path))

    def _range(self, path: str, offset: int, size: int) -> AbstractContextManager[Callable[[memoryview], int]]:
        span = range(offset, offset + size)
        return _reading(self._client, self.bucket, self.prefix + path, self._etags.get(path), span)

    def child(self, name: str) -> "S3Store":
        return S3Store(self._client, self.bucket, self.prefix + name)

    def children(self) -> set[str]:
        with self._explained(self.uri):
            return self._folder.folders_of_files() | self._folder.folders_of_uploads()

    def last_written(self) -> datetime | None:
        with self._explained(self.uri):
            return self._folder.last_written()

    @contextmanager
    def writer(self, path: str, size: int) -> Iterator[Writer]:
        upload = MultipartUpload(self._client, self.bucket, self.prefix + path, size)
        with self._explained(self.describe(path)), ended(upload):
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
                with ended(copy):
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
        with self._explained(self.uri):
            return self._folder.abort_uploads()

    def _explained(self, label: str) -> AbstractContextManager[None]:
        return explained(self.bucket, label)


def _identity(head: "HeadObjectOutputTypeDef") -> str:
    """Returns the sha256 that the object declares, or its ETag."""
    checksum = head.get("ChecksumSHA256", "")
    declared = head["Metadata"].get(SHA256_METADATA, "").lower()
    if checksum and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in checksum:
        return f"sha256:{base64.b64decode(checksum).hex()}"
    if len(declared) == 64 and all(digit in "0123456789abcdef" for digit in declared):
        return f"sha256:{declared}"
    return f"etag:{head['ETag'].strip(chr(34))}"


def _fill(buffer: memoryview, asked: AbstractContextManager[Callable[[memoryview], int]]) -> None:
    with asked as read:
        done = 0
        while done < len(buffer):
            done += read(buffer[done:])


def _own_piece() -> memoryview:
    """Returns PIECE_BYTES of the thread's own, which it uses again: fresh memory costs a page fault for each 4 KiB."""
    if not hasattr(_own, "piece"):
        _own.piece = memoryview(bytearray(PIECE_BYTES))
    piece: memoryview = _own.piece
    return piece


@contextmanager
def _reading(
    client: "S3Client", bucket: str, key: str, etag: str | None, span: range
) -> Iterator[Callable[[memoryview], int]]:
    """Asks for these bytes; yields a function that puts those that come next into a buffer, and returns how many.

    Raises TransientError where they break off, and the client's errors.
    """
    condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
    wanted = f"bytes={span.start}-{span.stop - 1}"
    done = 0
    with client.get_object(Bucket=bucket, Key=key, Range=wanted, **condition)["Body"] as body:
        # urllib3's own `readinto` makes an object of each piece and copies it.
        stream: HTTPResponse = body._fp  # type: ignore[attr-defined]

        def read(buffer: memoryview) -> int:
            nonlocal done
            try:
                count = stream.readinto(buffer)
            except _BODY_ERRORS as error:
                text = f"broke off after {done} of {len(span)} bytes from {span.start}: {error}"
                raise TransientError(text) from error
            if not count:
                raise TransientError(f"answered {done} of {len(span)} bytes from {span.start}")
            done += count
            return count

        yield read
        if stream.isclosed():  # read to its end, so that the connection can be used again
            body.release_conn()  # type: ignore[attr-defined]  # the stub says StreamingBody, which enters urllib3's
