"""Uploads in parts that are made in parallel, and streams into them; what fits in a part is a single put.

Memory is PARTS_IN_FLIGHT + 1 parts. The caller must end one by `complete` or by `abort`; after `abort` the store holds
neither the object nor its parts.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast

from botocore.exceptions import BotoCoreError, ClientError

from ftm_jobs.contract.byte_counts import MIB
from ftm_jobs.errors import Interrupted
from ftm_jobs.stores.interface import Buffer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_LOG = logging.getLogger(__name__)

SMALLEST_PART_BYTES = 16 * MIB
LARGEST_PART_COUNT = 10_000
PARTS_IN_FLIGHT = 4


def part_bytes(size: int) -> int:
    """Returns a part's size with which `size` bytes fit in LARGEST_PART_COUNT parts: whole MiB, at least 16 of them."""
    needed = -(-size // LARGEST_PART_COUNT)
    return max(SMALLEST_PART_BYTES, -(-needed // MIB) * MIB)


class EndedUpload(Protocol):
    """An upload that the caller must end, by one of the two."""

    def complete(self) -> None: ...

    def abort(self, *, wait: bool) -> None: ...


@contextmanager
def ended(upload: EndedUpload) -> Iterator[None]:
    """Completes the upload when the block ends well, else removes it; interrupted, it waits for no part."""
    try:
        yield
        upload.complete()
    except Interrupted:
        upload.abort(wait=False)
        raise
    except BaseException:
        upload.abort(wait=True)
        raise


class Parts:
    """A multipart upload that is begun with its first part."""

    def __init__(self, client: "S3Client", bucket: str, key: str, metadata: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._metadata = dict(metadata or {})
        self._upload_id: str | None = None
        self._creating = threading.Lock()
        self._aborted = False
        self._pool = ThreadPoolExecutor(PARTS_IN_FLIGHT)
        self._pending: deque[Future[CompletedPartTypeDef]] = deque()
        self._parts: list[CompletedPartTypeDef] = []

    def check(self) -> None:
        """Raises the client's error of a part that has failed, without waiting for one."""
        while self._pending and self._pending[0].done():
            self._parts.append(self._pending.popleft().result())

    @property
    def begun(self) -> bool:
        return self._upload_id is not None

    def add(self, send: "Callable[[str, int], CompletedPartTypeDef]") -> None:
        """Has the next part made by `send`, given the upload and the part's number. Raises as `join` does."""
        with self._creating:
            if self._aborted:
                raise RuntimeError(f"the upload of {self._key} was aborted")
            upload_id = self._upload_id = self._upload_id or self._create()
        while len(self._pending) >= PARTS_IN_FLIGHT:
            self._parts.append(self._pending.popleft().result())
        number = len(self._parts) + len(self._pending) + 1
        self._pending.append(self._pool.submit(send, upload_id, number))

    def join(self) -> None:
        """Waits for all parts. Raises the client's error of the first one that failed."""
        while self._pending:
            self._parts.append(self._pending.popleft().result())

    def complete(self) -> None:
        self.join()
        if self._upload_id is not None:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        self._pool.shutdown()

    def abort(self, *, wait: bool) -> None:
        """Removes the upload as far as it can; the next run's `abort_uploads` removes the rest.

        With `wait`, the parts on their way are waited for first.
        """
        self._pool.shutdown(wait=wait, cancel_futures=True)
        with self._creating:
            self._aborted = True
        if self._upload_id is None:
            return
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)
        except (ClientError, BotoCoreError) as error:
            _LOG.warning("s3://%s/%s: its unfinished upload stays behind: %s", self._bucket, self._key, error)

    def _create(self) -> str:
        return self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key, Metadata=self._metadata)[
            "UploadId"
        ]


class MultipartUpload:
    """An upload of the bytes that are written to it."""

    def __init__(self, client: "S3Client", bucket: str, key: str, size: int) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._part_bytes = part_bytes(size)
        self._part = bytearray(self._part_bytes)
        self._filled = 0
        self._parts = Parts(client, bucket, key)

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        while len(view):
            taken = view[: self._part_bytes - self._filled]
            self._part[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == self._part_bytes:
                self._send()

    def complete(self) -> None:
        """Raises the client's error of the first part that failed."""
        if not self._parts.begun:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=self._take())
        elif self._filled:
            self._send()
        self._parts.complete()

    def abort(self, *, wait: bool) -> None:
        """As `Parts.abort`."""
        self._parts.abort(wait=wait)

    def _send(self) -> None:
        body = self._take()

        def send(upload_id: str, number: int) -> "CompletedPartTypeDef":
            sent = self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=upload_id, PartNumber=number, Body=body
            )
            return {"ETag": sent["ETag"], "PartNumber": number}

        self._parts.add(send)
        self._part = bytearray(self._part_bytes)

    def _take(self) -> bytes:
        """Returns the bytes that are filled. boto takes a bytearray as it takes bytes, and a part is not copied."""
        del self._part[self._filled :]
        self._filled = 0
        return cast("bytes", self._part)
