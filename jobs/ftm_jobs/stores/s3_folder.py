"""Lists one folder of a bucket: its objects, the folders in it, and uploads that were begun and not ended.

Everything here raises the client's own errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ftm_jobs.stores.s3_errors import code_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, MultipartUploadTypeDef, ObjectTypeDef


@dataclass(frozen=True)
class S3Folder:
    client: "S3Client"
    bucket: str
    prefix: str
    """With a slash at its end; empty for the bucket itself."""

    def key(self, name: str) -> str:
        """Returns the object's key of a file directly in the folder."""
        return self.prefix + name

    def files(self) -> "dict[str, ObjectTypeDef]":
        """Returns the objects directly in the folder, by name."""
        objects = {self._name(each["Key"]): each for page in self._pages() for each in page.get("Contents", [])}
        return {name: each for name, each in objects.items() if name}

    def files_below(self, folder: str) -> "dict[str, ObjectTypeDef]":
        """Returns the objects anywhere below a folder in this one, by their paths from this one."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.key(f"{folder}/"))
        objects = (each for page in pages for each in page.get("Contents", []))
        return {self._name(each["Key"]): each for each in objects if not each["Key"].endswith("/")}

    def folders_of_files(self) -> set[str]:
        """Returns the names of the folders in this one that hold objects."""
        prefixes = (each["Prefix"] for page in self._pages() for each in page.get("CommonPrefixes", []))
        return {self._name(prefix)[:-1] for prefix in prefixes}

    def folders_of_uploads(self) -> set[str]:
        """Returns the names of the folders in this one that hold unfinished uploads."""
        below = (self._name(upload["Key"]) for upload in self._uploads())
        return {key.partition("/")[0] for key in below if "/" in key}

    def last_written(self) -> datetime | None:
        """Returns when an object or an upload in the folder, or an upload below it, was last written or begun."""
        objects = [each["LastModified"] for page in self._pages() for each in page.get("Contents", [])]
        return max([*objects, *(upload["Initiated"] for upload in self._uploads())], default=None)

    def abort_uploads(self) -> int:
        """Ends the unfinished uploads of files directly in the folder, and returns their number."""
        own = [upload for upload in self._uploads() if "/" not in self._name(upload["Key"])]
        for upload in own:
            try:
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            except ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise
        return len(own)

    def _name(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def _pages(self) -> "Iterator[ListObjectsV2OutputTypeDef]":
        pages = self.client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self.bucket, Prefix=self.prefix, Delimiter="/")

    def _uploads(self) -> "Iterator[MultipartUploadTypeDef]":
        """Yields unfinished uploads in this folder and below. Not every server heeds the prefix."""
        pages = self.client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
            yield from (upload for upload in page.get("Uploads", []) if upload["Key"].startswith(self.prefix))
