"""Every store keeps the same promises, proven on the local disk and on a real S3 server."""

import hashlib
import random
from pathlib import Path

import pytest

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores import WritableStore, open_artifacts, s3_upload
from ftm_jobs.stores.source import parse_source
from tests.places import S3, Place
from tests.servers.seaweedfs import ARTIFACTS

CONTENT = random.Random(1).randbytes(12 * 1024 * 1024 + 5)


@pytest.fixture
def store(place: Place) -> WritableStore:
    return place.store()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_upload, "SMALLEST_PART_BYTES", 5 * 1024 * 1024)


def write(store: WritableStore, name: str, content: bytes, step: int = 1_000_003) -> None:
    with store.writer(name, len(content)) as writer:
        for start in range(0, len(content), step):
            writer.write(content[start : start + step])


def fail_after(store: WritableStore, content: bytes) -> None:
    with store.writer("a", len(CONTENT)) as writer:
        writer.write(content)
        raise ZeroDivisionError


@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "a byte", "several parts"])
def test_what_is_written_is_listed_and_read_back(store: WritableStore, content: bytes) -> None:
    write(store, "a", content)
    assert store.list() == {"a": len(content)}
    assert store.stat("a").size == len(content)
    assert bytes(store.read("a", 0, len(content))) == content


def test_any_range_is_read_exactly(store: WritableStore) -> None:
    write(store, "a", CONTENT)
    store.list()
    for offset, size in ((0, 1), (1, 7), (len(CONTENT) - 3, 3), (4_999_999, 2_000_001), (5, 0)):
        assert bytes(store.read("a", offset, size)) == CONTENT[offset : offset + size]


def test_a_range_comes_in_pieces_too(store: WritableStore) -> None:
    write(store, "a", CONTENT)
    store.list()
    for offset, size in ((0, len(CONTENT)), (4_999_999, 2_000_001), (5, 0)):
        found = bytearray()
        store.read_pieces("a", offset, size, found.extend)
        assert found == CONTENT[offset : offset + size]


def test_names_may_hold_what_file_names_hold(store: WritableStore) -> None:
    names = ["a b.json", "a+b%20.json", "ä.json", "a'b\"#?.json", "a=b&c.json"]
    for name in names:
        write(store, name, name.encode())
    assert set(store.list()) == set(names)
    for name in names:
        assert bytes(store.read(name, 0, len(name.encode()))) == name.encode()


def test_a_small_file_declares_its_sha256(store: WritableStore) -> None:
    store.put("a", b"content")
    assert store.stat("a").sha256 == hashlib.sha256(b"content").hexdigest()


def test_a_folder_that_is_not_there_is_empty_and_folders_in_it_are_not_listed(store: WritableStore) -> None:
    assert store.list() == {}
    assert store.child("b").list() == {}
    write(store.child("b"), "a", b"x")
    assert store.list() == {}
    assert store.child("b").list() == {"a": 1}


def test_a_folder_whose_name_begins_alike_is_another(store: WritableStore) -> None:
    write(store.child("bb"), "a", b"x")
    assert store.child("b").list() == {}


@pytest.mark.parametrize("written", [0, 1, 7_000_000])
def test_a_failed_write_leaves_nothing(store: WritableStore, place: Place, written: int) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_after(store, CONTENT[:written])
    assert store.list() == {}
    assert place.unfinished() == 0


def test_a_failed_write_leaves_what_was_there(store: WritableStore) -> None:
    store.put("a", b"before")
    with pytest.raises(ZeroDivisionError):
        fail_after(store, CONTENT)
    assert bytes(store.read("a", 0, 6)) == b"before"


def test_only_the_first_put_if_absent_writes(store: WritableStore) -> None:
    assert store.put_if_absent("a", b"first")
    assert not store.put_if_absent("a", b"other")
    assert bytes(store.read("a", 0, 5)) == b"first"
    store.put("a", b"third")
    assert bytes(place_read(store, "a")) == b"third"


def place_read(store: WritableStore, name: str) -> bytearray:
    return store.read(name, 0, store.list()[name])


def test_deleting_twice_is_no_error(store: WritableStore) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert store.list() == {}


def test_what_killed_writers_left_is_removed_and_only_there(s3: S3) -> None:
    client = s3.server.client()
    for key in ("merge-1/a", "merge-1/b", "merge-11/a"):
        client.create_multipart_upload(Bucket=ARTIFACTS, Key=f"{s3.prefix}/{key}")
    assert s3.unfinished() == 3
    assert s3.store().child("merge-1").abort_uploads() == 2
    assert s3.unfinished() == 1


def test_partial_files_of_killed_writers_are_not_listed_and_are_removed(tmp_path: Path) -> None:
    store = open_artifacts(parse_source(tmp_path.as_uri()))
    (tmp_path / ".model.safetensors.0a0a.partial").write_bytes(b"x")
    assert store.list() == {}
    assert store.abort_uploads() == 1
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_was_replaced_after_it_was_listed_is_noticed(s3: S3) -> None:
    store = s3.store()
    store.put("a", b"before")
    store.list()
    s3.store().put("a", b"after!")
    with pytest.raises(InvalidInput) as caught:
        store.read("a", 0, 6)
    assert caught.value.reason is Reason.SOURCE_CHANGED
    assert "was replaced while it was read: run this again from its start" in caught.value.message


def test_a_file_that_was_cut_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    store = open_artifacts(parse_source(tmp_path.as_uri()))
    with pytest.raises(InvalidInput) as caught:
        store.read("a", 0, 7)
    assert caught.value.reason is Reason.SOURCE_CHANGED
    assert "ends at byte 6 of 7" in caught.value.message
