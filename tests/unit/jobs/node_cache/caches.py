"""Artifacts in a local folder, and pods that use a cache; a pod's holder is a process of its own."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ftm_jobs.artifacts.fetch import fetch
from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.node_cache.fetch import PodsCache, WantedFiles, artifact_entry, fetch_cached
from ftm_jobs.stores.source import Source, parse_source

SIZE = 10_000


def artifact(root: Path, name: str, size: int = SIZE) -> Source:
    """Writes an artifact of two files, of `size` bytes together, and returns where it is."""
    folder = root / "store" / name
    contents = {"config.json": b"{}", "inner/model.safetensors": (name.encode() * size)[: size - 2]}
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    files = tuple(
        ManifestFile(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in contents.items()
    )
    text = encode(Manifest(key=name, step=Step.MERGE, recipe=1, inputs=(), files=files))
    (folder / MANIFEST_NAME).write_bytes(text)
    return parse_source(f"{folder.as_uri()},digest=sha256:{hashlib.sha256(text).hexdigest()}")


@dataclass
class Pod:
    """A pod with a folder of its own; it counts the fetches that it made."""

    root: Path
    name: str
    size: int = 3 * SIZE
    fetches: list[Path] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.root / "pods" / self.name

    @property
    def cache(self) -> PodsCache:
        return PodsCache(self.root / "cache", self.size, self.name)

    def fetch(self, source: Source, total_bytes: int = SIZE) -> Report:
        def bring(folder: Path) -> Report:
            self.fetches.append(folder)
            return fetch(source, folder)

        return fetch_cached(self.cache, WantedFiles(source, total_bytes, bring), self.model)

    def end(self, source: Source) -> None:
        artifact_entry(self.cache.root, source).end_lease(self.name)

    @property
    def reads(self) -> bytes:
        return (self.model / "inner" / "model.safetensors").read_bytes()


def remove_store(root: Path) -> None:
    """Nothing can be fetched after this."""
    shutil.rmtree(root / "store")


@contextmanager
def holder(pod: Pod, source: Source) -> Iterator[subprocess.Popen[bytes]]:
    """The process that a pod's sidecar is, once it holds the lease's lock."""
    from ftm_jobs.node_cache.locks import is_locked

    command = [sys.executable, "-m", "ftm_jobs", "cache", "--cache", str(pod.cache.root), "--pod", pod.name]
    held = f"{source.uri},digest={source.digest}"
    process = subprocess.Popen([*command, "--hold", held], stdout=subprocess.PIPE)
    lease = artifact_entry(pod.cache.root, source).lease(pod.name)
    try:
        while not (lease.exists() and is_locked(lease)):
            assert process.poll() is None
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
