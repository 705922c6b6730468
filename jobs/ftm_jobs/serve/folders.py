"""Keeps adapters' folders on the local disk, each named by its artifact's digest.

A folder is complete when its manifest, which is fetched last, is there with that digest, and every file in its size.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from ftm_jobs.artifacts.fetch import fetch
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest
from ftm_jobs.contract.run_time_adapters import WantedAdapter
from ftm_jobs.errors import StepError
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.stores.source import Source, parse_uri


class AdapterFolders:
    """The folders below `root`. Safe to use from several threads for different digests."""

    def __init__(self, root: Path, credentials: Path | None = None) -> None:
        """`credentials` is a folder with the store's, as Kubernetes mounts a Secret."""
        self._root = root
        self._credentials = credentials

    def path(self, digest: str) -> Path:
        return self._root / digest.removeprefix("sha256:")

    def digest(self, folder: str) -> str | None:
        """Returns the digest that names a folder; None for a folder elsewhere."""
        path = Path(folder)
        return f"sha256:{path.name}" if path.parent == self._root else None

    def complete(self) -> dict[str, int]:
        """Returns bytes by digest of all complete folders, and removes what is incomplete. Raises StepError."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            found = {}
            for folder in sorted(self._root.iterdir()):
                size = _complete_bytes(folder)
                if size is None:
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    found[f"sha256:{folder.name}"] = size
        except OSError as error:
            raise explain(error, str(self._root)) from error
        return found

    def is_complete(self, digest: str) -> bool:
        return _complete_bytes(self.path(digest)) is not None

    def fetch(self, adapter: WantedAdapter) -> None:
        """Fetches an adapter's artifact. Raises StepError; then no folder looks complete."""
        source = Source(parse_uri(adapter.artifact))
        try:
            fetch(replace(source, digest=adapter.digest, credentials=self._credentials), self.path(adapter.digest))
        except StepError:
            shutil.rmtree(self.path(adapter.digest), ignore_errors=True)
            raise

    def remove(self, digest: str) -> None:
        """Removes a folder, its manifest first."""
        folder = self.path(digest)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _complete_bytes(folder: Path) -> int | None:
    try:
        text = (folder / MANIFEST_NAME).read_bytes()
        if hashlib.sha256(text).hexdigest() != folder.name:
            return None
        files = Manifest.model_validate_json(text).files
        whole = all((folder / file.path).stat().st_size == file.size for file in files)
    except (OSError, ValueError):
        return None
    return sum(file.size for file in files) if whole else None
