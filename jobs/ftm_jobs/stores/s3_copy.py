"""Has the S3 server copy an object by itself, from a bucket that the destination's keys may read.

A multipart upload whose parts are copied beside the caller's reading and hashing, so that the object appears only once
its digest is proven. Each part names the ETag that was listed; since not every server heeds that, the original's ETag
is asked for again before the object appears. The caller must end a copy by `complete` or by `abort`; after `abort`
nothing is left of it.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from ftm_jobs.contract.byte_counts import MIB
from ftm_jobs.stores.interface import Buffer, NotCopied, Stat
from ftm_jobs.stores.s3_errors import code_of
from ftm_jobs.stores.s3_upload import LARGEST_PART_COUNT, Parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CopySourceTypeDef

SMALLEST_COPY_BYTES = 5 * MIB
"""Sending the bytes of a smaller object costs no more than asking."""
COPIED_PART_BYTES = 128 * MIB
"""A server may answer a request only when it has copied, so that one for many GB would run into the read timeout."""


def part_bytes(size: int) -> int:
    """Returns the size of a part with which `size` bytes fit in LARGEST_PART_COUNT parts: whole MiB."""
    needed = -(-size // LARGEST_PART_COUNT)
    return max(COPIED_PART_BYTES, -(-needed // MIB) * MIB)


@dataclass(frozen=True)
class Original:
    """The object to copy, as it was listed."""

    bucket: str
    key: str
    etag: str
    stat: Stat

    @property
    def source(self) -> "CopySourceTypeDef":
        return {"Bucket": self.bucket, "Key": self.key}


class ServerSideCopy:
    """A copy under way; what is written to it only says how far the original has been read."""

    def __init__(self, client: "S3Client", original: Original, bucket: str, key: str, metadata: dict[str, str]) -> None:
        self._client = client
        self._original = original
        self._bucket = bucket
        self._key = key
        self._size = original.stat.size
        self._part_bytes = part_bytes(self._size)
        self._read = 0
        self._begun = 0
        """Bytes of the parts whose copying has begun."""
        self._parts = Parts(client, bucket, key, metadata)

    def may_read(self) -> bool:
        """Says whether these keys see the object that was listed."""
        try:
            self._check_original()
        except (NotCopied, ClientError, BotoCoreError):
            return False
        return True

    def write(self, data: Buffer) -> None:
        self._read += len(data)
        self._parts.check()
        while self._begun < min(self._read, self._size):
            self._copy_part()

    def complete(self) -> None:
        """Raises NotCopied where the original was replaced meanwhile, and the client's errors."""
        self._parts.join()
        self._check_original()
        self._parts.complete()
        copied = self._client.head_object(Bucket=self._bucket, Key=self._key)["ContentLength"]
        if copied != self._size:
            raise NotCopied(f"the store's copy has {copied} of {self._size} bytes")

    def abort(self, *, wait: bool) -> None:
        """As `Parts.abort`."""
        self._parts.abort(wait=wait)

    def _check_original(self) -> None:
        head = self._client.head_object(Bucket=self._original.bucket, Key=self._original.key)
        if head["ETag"] != self._original.etag or head["ContentLength"] != self._size:
            raise NotCopied("what the store would copy is not the object that was listed")

    def _copy_part(self) -> None:
        start = self._begun
        self._begun = min(start + self._part_bytes, self._size)
        last = self._begun - 1

        def copy(upload_id: str, number: int) -> "CompletedPartTypeDef":
            made = self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource=self._original.source,
                CopySourceIfMatch=self._original.etag,
                CopySourceRange=f"bytes={start}-{last}",
            )
            return {"ETag": made["CopyPartResult"]["ETag"], "PartNumber": number}

        self._parts.add(copy)


def is_refusal(error: Exception) -> bool:
    """Says whether the server does not copy this, while it may well take its bytes."""
    if not isinstance(error, ClientError) or code_of(error) == "NoSuchUpload":
        return False
    metadata: Any = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    return status == HTTPStatus.NOT_IMPLEMENTED or HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
