"""A node fetches an artifact once: later pods, pods at the same time, pods after one that was killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.errors import InvalidInput
from ftm_jobs.node_cache.entries import LEASE_SECONDS
from ftm_jobs.node_cache.fetch import artifact_entry, compiled_entry, use_compiled
from ftm_jobs.node_cache.owner import give_to
from ftm_jobs.stores.source import parse_source
from tests.unit.jobs.node_cache.caches import SIZE, Pod, artifact, holder, remove_store

DiskUsage = namedtuple("DiskUsage", ["total", "used", "free"])
LARGE = 100_000_000
"""Bytes that take long enough to be stopped in the middle of them."""


def test_the_second_pod_asks_its_store_nothing(tmp_path: Path) -> None:
    source = artifact(tmp_path, "merge-1")
    first, second = Pod(tmp_path, "first"), Pod(tmp_path, "second")
    first.fetch(source)
    remove_store(tmp_path)
    report = second.fetch(source)
    assert (len(first.fetches), len(second.fetches)) == (1, 0)
    assert report.reused
    assert report.artifact
    assert (report.artifact.digest, report.artifact.uri) == (source.digest, source.uri)
    assert report.message.endswith(f"holds 2 files, 10.0 kB, of {source.uri}; all of them were there already")
    assert second.reads == first.reads
    assert (second.model / "config.json").is_symlink()


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "manifest"])
def test_what_was_changed_in_the_cache_since_is_noticed_and_mended(tmp_path: Path, harm: str) -> None:
    source = artifact(tmp_path, "merge-1")
    first, second = Pod(tmp_path, "first"), Pod(tmp_path, "second")
    first.fetch(source)
    whole = first.reads
    harmed = artifact_entry(first.cache.root, source).folder / "inner" / "model.safetensors"
    if harm == "flip":
        harmed.write_bytes(b"x" + whole[1:])
    elif harm == "cut":
        harmed.write_bytes(whole[:-1])
    elif harm == "remove":
        harmed.unlink()
    else:
        (harmed.parents[1] / MANIFEST_NAME).write_text("{}")
    second.fetch(source)
    assert len(second.fetches) == 1
    assert second.reads == whole


def test_pods_that_start_at_once_fetch_once(tmp_path: Path) -> None:
    source = artifact(tmp_path, "merge-1")
    pods = [Pod(tmp_path, str(number)) for number in range(6)]
    threads = [threading.Thread(target=pod.fetch, args=[source]) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(pod.fetches) for pod in pods) == 1
    assert len({pod.reads for pod in pods}) == 1


def test_a_second_model_takes_the_place_of_one_whose_pods_are_gone_and_never_of_one_that_is_used(
    tmp_path: Path,
) -> None:
    first, second, third = (artifact(tmp_path, name) for name in ("merge-1", "merge-2", "merge-3"))
    pods = [Pod(tmp_path, str(number), size=5 * SIZE // 2) for number in range(3)]
    pods[0].fetch(first)
    pods[1].fetch(second)
    kept = [artifact_entry(pods[0].cache.root, source).folder for source in (first, second, third)]
    report = pods[2].fetch(third)
    assert "; they are not in the node's cache: pods use what else is in the cache of 25.0 kB" in report.message
    assert pods[2].fetches == [pods[2].model]
    assert [folder.exists() for folder in kept] == [True, True, False]
    assert pods[2].reads
    pods[0].end(first)
    pods[2].fetch(third)
    assert [folder.exists() for folder in kept] == [False, True, True]
    assert pods[1].reads
    assert (pods[2].model / "config.json").is_symlink()


def test_an_artifact_that_is_larger_than_the_cache_goes_to_the_pods_own_disk(tmp_path: Path) -> None:
    pod = Pod(tmp_path, "pod", size=SIZE - 1)
    report = pod.fetch(artifact(tmp_path, "merge-1"))
    assert pod.fetches == [pod.model]
    assert report.message.endswith("; they are not in the node's cache: a cache of 10.0 kB is smaller")


def test_a_process_that_holds_a_lease_keeps_its_artifact_until_it_is_killed(tmp_path: Path) -> None:
    first, second = artifact(tmp_path, "merge-1"), artifact(tmp_path, "merge-2")
    pod, other = Pod(tmp_path, "pod", size=SIZE), Pod(tmp_path, "other", size=SIZE)
    pod.fetch(first)
    entry = artifact_entry(pod.cache.root, first)
    with holder(pod, first):
        long_ago = time.time() - 2 * LEASE_SECONDS
        os.utime(entry.lease(pod.name), (long_ago, long_ago))
        other.fetch(second)
        assert entry.folder.exists()
    other.fetch(second)
    assert not entry.folder.exists()


def test_a_pod_that_ends_in_good_order_lets_its_artifact_go_at_once(tmp_path: Path) -> None:
    source = artifact(tmp_path, "merge-1")
    pod = Pod(tmp_path, "pod")
    pod.fetch(source)
    with holder(pod, source) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not artifact_entry(pod.cache.root, source).is_in_use()


def test_a_pod_whose_holder_is_started_again_keeps_its_artifact_meanwhile(tmp_path: Path) -> None:
    source = artifact(tmp_path, "merge-1")
    pod = Pod(tmp_path, "pod")
    pod.fetch(source)
    with holder(pod, source) as process:
        process.kill()
        process.wait()
    assert artifact_entry(pod.cache.root, source).is_in_use()


def test_a_fetch_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    source = artifact(tmp_path, "merge-1", LARGE)
    pod = Pod(tmp_path, "pod", size=2 * LARGE)
    folder = artifact_entry(pod.cache.root, source).folder
    command = [sys.executable, "-m", "ftm_jobs", "fetch", "--artifact", f"{source.uri},digest={source.digest}"]
    cache = ["--cache", str(pod.cache.root), "--cache-size", str(2 * LARGE), "--bytes", str(LARGE), "--pod", "killed"]
    process = subprocess.Popen([*command, *cache, "--to", str(pod.model)])
    while not ((folder / "config.json").exists() and list(folder.glob("inner/.*"))):
        assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / MANIFEST_NAME).exists()
    before = (folder / "config.json").stat().st_ino
    report = pod.fetch(source, LARGE)
    assert (folder / "config.json").stat().st_ino == before
    assert report.message.endswith("; 1 of them fetched")
    assert len(pod.reads) == LARGE - 2
    assert not list(folder.rglob(".*"))


def test_what_an_engine_compiled_counts_and_goes_as_artifacts_do(tmp_path: Path) -> None:
    pod, other = Pod(tmp_path, "pod", size=SIZE), Pod(tmp_path, "other", size=SIZE)
    use_compiled(pod.cache, "engine-1")
    compiled = compiled_entry(pod.cache.root, "engine-1")
    (compiled.folder / "kernel.so").write_bytes(bytes(SIZE))
    source = artifact(tmp_path, "merge-1")
    assert "not in the node's cache" in other.fetch(source).message
    compiled.end_lease("pod")
    assert other.fetch(source).message
    assert not compiled.folder.exists()


def test_what_another_user_has_written_is_named_where_it_must_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, other = Pod(tmp_path, "pod", size=SIZE), Pod(tmp_path, "other", size=SIZE)
    pod.fetch(artifact(tmp_path, "merge-1"))
    pod.end(artifact(tmp_path, "merge-1"))

    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "kernel.so"))

    monkeypatch.setattr("ftm_jobs.node_cache.entries.shutil.rmtree", refused)
    with pytest.raises(InvalidInput, match=r"in the cache must make room, and \S+/kernel.so in it is another user's: "):
        other.fetch(artifact(tmp_path, "merge-2"))


def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftm_jobs.node_cache.room.shutil.disk_usage", lambda _: DiskUsage(SIZE, SIZE, 0))
    report = Pod(tmp_path, "pod").fetch(artifact(tmp_path, "merge-1"))
    assert report.message.endswith(", and 0 B of its disk are free")


def test_an_artifact_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r'"file:///a" is named without its digest, by which a cache knows it'):
        Pod(tmp_path, "pod").fetch(parse_source("file:///a"))


def test_a_folder_with_files_of_somebody_else_is_not_given_away(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    user = tmp_path.stat().st_uid
    assert not give_to(tmp_path, user, user)
    with pytest.raises(InvalidInput, match=r"belongs to user \d+ of the node and is not empty, and the pods run as"):
        give_to(tmp_path, user + 1, user + 1)
