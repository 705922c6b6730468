"""Object stores behind one interface; `open_store` and `open_artifacts` choose by the URI's scheme.

A store's client is imported only when a URI asks for it, so that a Job loads boto3 or huggingface-hub, not both.
"""

from pathlib import Path

from ftm_jobs.contract.mounts import CLAIMS
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.credentials import read_credentials
from ftm_jobs.stores.interface import NotCopied, Stat, Store, WritableStore, Writer
from ftm_jobs.stores.source import Location, Source

__all__ = ["NotCopied", "Stat", "Store", "WritableStore", "Writer", "open_artifacts", "open_store"]


def open_store(source: Source) -> Store:
    """The store to read `source` from. An hf:// source is pinned to a commit here.

    Raises InvalidInput when it does not exist or may not be read, Failed when it cannot be reached.
    """
    location = source.location
    if location.scheme == "hf":
        from ftm_jobs.stores.hf import HfStore

        return HfStore.open(location, read_credentials(source.credentials))
    return open_artifacts(source)


def open_artifacts(source: Source) -> WritableStore:
    """The store to write artifacts to. Raises InvalidInput for a store that can only be read."""
    location = source.location
    if location.scheme == "s3":
        from ftm_jobs.stores.s3 import S3Store

        return S3Store.open(location, read_credentials(source.credentials))
    if location.scheme == "file":
        from ftm_jobs.stores.file import FileStore

        return FileStore(location.root, hashed=source.hashed)
    if location.scheme == "pvc":
        from ftm_jobs.stores.file import FileStore

        return FileStore(_mounted(location) / location.prefix, location.uri, hashed=source.hashed)
    raise InvalidInput(Reason.INVALID_URI, f'artifacts "{source.uri}" cannot be written to: write s3://bucket/prefix')


def _mounted(location: Location) -> Path:
    folder = Path(CLAIMS) / location.root
    if not folder.is_dir():
        raise InvalidInput(
            Reason.SOURCE_NOT_FOUND,
            f"{location.uri}: {folder} is not there: a claim is mounted in a cluster's Jobs alone; elsewhere write "
            "file:///path",
        )
    return folder
