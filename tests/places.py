"""The places of a test's models and artifacts: one interface over the local disk and a real S3 server."""

import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.stores import WritableStore, open_artifacts
from ftm_jobs.stores.source import parse_source
from tests.servers.seaweedfs import ARTIFACTS, MODELS, READER, WRITER, Identity, Server


class Place(ABC):
    @abstractmethod
    def upload(self, folder: Path, name: str | None = None) -> str:
        """SOURCE of a copy of the folder, with the credentials to read it."""

    @property
    @abstractmethod
    def artifacts(self) -> str:
        """SOURCE of this test's own artifacts, with the credentials to write them."""

    @abstractmethod
    def built(self) -> dict[str, bytes]:
        """Everything under the artifacts, by path."""

    @abstractmethod
    def artifact(self, report: Report) -> str:
        """SOURCE of a merged model."""

    def store(self) -> WritableStore:
        return open_artifacts(parse_source(self.artifacts))

    @abstractmethod
    def unfinished(self) -> int:
        """Counts the writes that have been begun and neither completed nor removed."""


class Disk(Place):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def upload(self, folder: Path, name: str | None = None) -> str:
        copy = self._folder / "models" / (name or secrets.token_hex(4))
        shutil.copytree(folder, copy)
        return copy.as_uri()

    @property
    def artifacts(self) -> str:
        return (self._folder / "artifacts").as_uri()

    def built(self) -> dict[str, bytes]:
        root = self._folder / "artifacts"
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def artifact(self, report: Report) -> str:
        assert report.artifact
        return report.artifact.uri

    def unfinished(self) -> int:
        return len(list((self._folder / "artifacts").rglob("*.partial")))


class S3(Place):
    """A prefix of its own for each test, in buckets that all tests share."""

    def __init__(self, server: Server, secrets_folder: Path) -> None:
        self.server = server
        self._folder = secrets_folder
        self.prefix = secrets.token_hex(8)
        self._client = server.client()

    def upload(self, folder: Path, name: str | None = None) -> str:
        uri = self.server.upload(MODELS, f"{self.prefix}/{name or secrets.token_hex(4)}", folder)
        return f"{uri},credentials={self.secret(READER)}"

    @property
    def artifacts(self) -> str:
        return f"s3://{ARTIFACTS}/{self.prefix},credentials={self.secret(WRITER)}"

    def built(self) -> dict[str, bytes]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=ARTIFACTS, Prefix=f"{self.prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {
            key.removeprefix(f"{self.prefix}/"): self._client.get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()
            for key in keys
        }

    def artifact(self, report: Report) -> str:
        assert report.artifact
        return f"{report.artifact.uri},credentials={self.secret(WRITER)}"

    def unfinished(self) -> int:
        listed = self._client.list_multipart_uploads(Bucket=ARTIFACTS)
        return len([upload for upload in listed.get("Uploads", []) if upload["Key"].startswith(f"{self.prefix}/")])

    def secret(self, identity: Identity, **changes: str) -> Path:
        """A folder as Kubernetes mounts a Secret."""
        return write_secret(self._folder, self.server.secret(identity) | changes)


def write_secret(parent: Path, values: Mapping[str, str]) -> Path:
    folder = parent / f"secret-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    for key, value in values.items():
        (folder / key).write_text(value)
    return folder
