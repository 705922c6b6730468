"""Files that a merge leaves as they are: copied by their store where it can, proven and whole in any case."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.errors import Interrupted, InvalidInput, Reason
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import WritableStore, open_artifacts, s3_copy, transfer
from ftm_jobs.stores.source import parse_source
from tests.models.llamas import medium
from tests.places import S3, Disk
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import ADMIN, ARTIFACTS, MODELS, READER, WRITER
from tests.step_fixtures import Run

MIB = 1024 * 1024
CONTENT = random.Random(3).randbytes(24 * MIB + 5)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REQUESTS = 64 * 1024
"""More bytes than all requests without a file in them have."""
NAME = "model.safetensors"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_copy, "COPIED_PART_BYTES", 5 * MIB)


@pytest.fixture
def between(s3: S3) -> Iterator[Proxy]:
    with proxy(s3.server.endpoint) as found:
        yield found


@pytest.fixture
def source(s3: S3, between: Proxy) -> WritableStore:
    """A folder with one file, reached through the proxy by one who may read and write everything."""
    s3.server.put(MODELS, f"{s3.prefix}/{NAME}", CONTENT)
    return opened(s3, between, MODELS)


def opened(s3: S3, between: Proxy, bucket: str) -> WritableStore:
    secret = s3.secret(ADMIN, AWS_ENDPOINT_URL=between.endpoint)
    return open_artifacts(parse_source(f"s3://{bucket}/{s3.prefix},credentials={secret}"))


class Watched(Progress):
    """Does something once `after` bytes have been passed on, and adds up."""

    def __init__(self, then: Callable[[], None] = lambda: None, after: int = 1) -> None:
        super().__init__("copy", len(CONTENT))
        self._after = after
        self._then: Callable[[], None] | None = then
        self.total = 0

    def add(self, count: int) -> None:
        super().add(count)
        self.total += count
        if self._then is not None and self.total >= self._after:
            then, self._then = self._then, None
            then()


def copied(source: WritableStore, target: WritableStore, progress: Progress | None = None) -> str:
    """The sha256 that a manifest would record."""
    source.list()
    file = transfer.copy(source, source.stat(NAME), target, progress or Watched())
    assert (file.path, file.size) == (NAME, len(CONTENT))
    return file.sha256


def test_the_server_copies_and_is_sent_no_byte_of_the_file(s3: S3, between: Proxy, source: WritableStore) -> None:
    target = opened(s3, between, ARTIFACTS)
    assert copied(source, target) == SHA256
    assert between.answered > len(CONTENT)
    assert between.sent < REQUESTS
    assert s3.built() == {NAME: CONTENT}
    assert target.stat(NAME).sha256 == SHA256
    assert s3.unfinished() == 0


def test_a_file_without_a_declared_sha256_is_streamed(s3: S3, between: Proxy) -> None:
    s3.server.client().put_object(Bucket=MODELS, Key=f"{s3.prefix}/{NAME}", Body=CONTENT, ChecksumAlgorithm="CRC32")
    assert copied(opened(s3, between, MODELS), opened(s3, between, ARTIFACTS)) == SHA256
    assert between.sent > len(CONTENT)
    assert s3.built() == {NAME: CONTENT}


def test_a_file_whose_declared_sha256_is_wrong_is_refused_and_never_appears(s3: S3, between: Proxy) -> None:
    metadata = {"sha256": "0" * 64}
    s3.server.client().put_object(
        Bucket=MODELS, Key=f"{s3.prefix}/{NAME}", Body=CONTENT, ChecksumAlgorithm="CRC32", Metadata=metadata
    )
    with pytest.raises(InvalidInput) as caught:
        copied(opened(s3, between, MODELS), opened(s3, between, ARTIFACTS))
    assert caught.value.reason is Reason.CORRUPT_SOURCE
    assert (s3.built(), s3.unfinished()) == ({}, 0)


def test_keys_that_may_not_read_the_source_write_it_themselves(s3: S3, between: Proxy, source: WritableStore) -> None:
    secret = s3.secret(WRITER, AWS_ENDPOINT_URL=between.endpoint)
    target = open_artifacts(parse_source(f"s3://{ARTIFACTS}/{s3.prefix},credentials={secret}"))
    assert copied(source, target) == SHA256
    assert between.sent > len(CONTENT)
    assert s3.built() == {NAME: CONTENT}


@pytest.mark.parametrize("answer", [("501 Not Implemented", "NotImplemented"), ("403 Forbidden", "AccessDenied")])
def test_a_server_that_does_not_copy_is_sent_the_file(
    s3: S3, between: Proxy, source: WritableStore, answer: tuple[str, str]
) -> None:
    between.refuse_copies = answer
    progress = Watched()
    target = opened(s3, between, ARTIFACTS)
    assert copied(source, target, progress) == SHA256
    assert (s3.built(), s3.unfinished()) == ({NAME: CONTENT}, 0)
    assert progress.total == len(CONTENT)
    refused = between.refused
    assert refused
    assert copied(source, target) == SHA256
    assert between.refused == refused, "a server that refused once is not asked for each file"


def test_another_endpoint_is_another_server(s3: S3, source: WritableStore) -> None:
    with proxy(s3.server.endpoint) as other:
        assert copied(source, opened(s3, other, ARTIFACTS)) == SHA256
        assert other.sent > len(CONTENT)
    assert s3.built() == {NAME: CONTENT}


@pytest.mark.parametrize("after", [1, len(CONTENT)], ids=["early", "once it is read"])
@pytest.mark.parametrize("heeded", [True, False], ids=["", "by a server that ignores conditions on copies"])
def test_a_source_that_is_replaced_midway_is_noticed_and_nothing_appears(
    s3: S3, between: Proxy, source: WritableStore, heeded: bool, after: int
) -> None:
    target: Any = opened(s3, between, ARTIFACTS)
    if not heeded:
        target._client.meta.events.register("before-call.s3.UploadPartCopy", _without_condition)

    def replace() -> None:
        s3.server.put(MODELS, f"{s3.prefix}/{NAME}", CONTENT[::-1])

    with pytest.raises(InvalidInput) as caught:
        copied(source, target, Watched(replace, after))
    assert caught.value.reason is Reason.SOURCE_CHANGED
    assert (s3.built(), s3.unfinished()) == ({}, 0)


def _without_condition(params: Any, **_: Any) -> None:
    assert params["headers"].pop("x-amz-copy-source-if-match", None)


def test_an_interrupted_copy_leaves_nothing(s3: S3, between: Proxy, source: WritableStore) -> None:
    def interrupt() -> None:
        assert s3.unfinished() == 1
        raise Interrupted

    with pytest.raises(Interrupted):
        copied(source, opened(s3, between, ARTIFACTS), Watched(interrupt))
    assert (s3.built(), s3.unfinished()) == ({}, 0)


def test_a_killed_copy_leaves_no_file_and_its_upload_is_removed_by_the_next_run(
    s3: S3, between: Proxy, source: WritableStore
) -> None:
    secret = s3.secret(ADMIN, AWS_ENDPOINT_URL=between.endpoint)
    uris = [f"s3://{bucket}/{s3.prefix},credentials={secret}" for bucket in (MODELS, ARTIFACTS)]
    process = subprocess.run([sys.executable, "-m", "tests.stores.test_copies", *uris], check=False)
    assert process.returncode == -signal.SIGKILL
    assert (s3.built(), s3.unfinished()) == ({}, 1)
    target = opened(s3, between, ARTIFACTS)
    assert target.abort_uploads() == 1
    assert copied(source, target) == SHA256
    assert (s3.built(), s3.unfinished()) == ({NAME: CONTENT}, 0)


def test_a_merge_sends_only_the_shards_that_it_changes(s3: S3, between: Proxy, tmp_path: Path, run: Run) -> None:
    base, adapter = _base_with_an_untouched_shard(tmp_path)
    disk = Disk(tmp_path / "disk")
    run("merge", "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", disk.artifacts)
    reader = s3.secret(READER, AWS_ENDPOINT_URL=between.endpoint)
    admin = s3.secret(ADMIN, AWS_ENDPOINT_URL=between.endpoint)
    sources = [f"{s3.upload(folder).partition(',')[0]},credentials={reader}" for folder in (base, adapter)]
    artifacts = f"s3://{ARTIFACTS}/{s3.prefix},credentials={admin}"
    report = run("merge", "--base", sources[0], "--adapter", sources[1], "--artifacts", artifacts)
    assert report.reason == "Merged"
    changed = (base / "model-00002-of-00002.safetensors").stat().st_size
    assert changed < between.sent < changed + 2 * REQUESTS
    built = s3.built()
    weights = {name: content for name, content in disk.built().items() if name.endswith(".safetensors")}
    assert len(weights) == 2
    assert {name: built[name] for name in weights} == weights


def _base_with_an_untouched_shard(folder: Path) -> tuple[Path, Path]:
    """The shard that no adapter names is the first."""
    base, adapter = medium(folder / "changed", layers=2)
    other, _ = medium(folder / "untouched", layers=3)
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    (base / NAME).rename(base / second)
    content = (other / NAME).read_bytes()
    (base / first).write_bytes(content.replace(b"q_proj", b"k_proj"))
    shutil.rmtree(other)
    layer = "model.layers.{}.self_attn.{}.weight"
    files = {layer.format(number, "k_proj"): first for number in range(3)}
    files |= {layer.format(number, "q_proj"): second for number in range(2)}
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return base, adapter


@pytest.fixture
def folders(tmp_path: Path) -> tuple[WritableStore, WritableStore]:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / NAME).write_bytes(CONTENT)
    source, target = (open_artifacts(parse_source((tmp_path / name).as_uri())) for name in ("from", "to"))
    return source, target


def test_on_one_file_system_the_kernel_copies(
    folders: tuple[WritableStore, WritableStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, counts = os.copy_file_range, []

    def counted(*arguments: Any, **named: Any) -> int:
        counts.append(copy(*arguments, **named))
        return counts[-1]

    monkeypatch.setattr(os, "copy_file_range", counted)
    assert copied(*folders) == SHA256
    assert sum(counts) == len(CONTENT)
    assert (tmp_path / "to" / NAME).read_bytes() == CONTENT


def test_between_file_systems_the_bytes_are_written(
    folders: tuple[WritableStore, WritableStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert copied(*folders) == SHA256
    assert (tmp_path / "to" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), 10 * MIB], ids=["other bytes", "cut"])
def test_a_file_that_changes_while_the_kernel_copies_it_is_noticed(
    folders: tuple[WritableStore, WritableStore], tmp_path: Path, size: int
) -> None:
    with pytest.raises(InvalidInput) as caught:
        copied(*folders, Watched(lambda: _overwrite(tmp_path / "from" / NAME, size)))
    assert caught.value.reason is Reason.SOURCE_CHANGED
    assert not (tmp_path / "to").exists()


def _overwrite(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.write(CONTENT[::-1][:size])
        file.truncate(size)


if __name__ == "__main__":
    read_from, write_to = (open_artifacts(parse_source(uri)) for uri in sys.argv[1:])
    copied(read_from, write_to, Watched(lambda: os.kill(os.getpid(), signal.SIGKILL)))
