"""A fetch from a real S3 server whose connections break off: nothing is lost, and little comes twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.artifacts.fetch import fetch
from ftm_jobs.contract.byte_counts import MIB
from ftm_jobs.stores import open_store
from ftm_jobs.stores.interface import PIECE_BYTES, Store
from ftm_jobs.stores.source import parse_source
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import ADMIN, ARTIFACTS, seaweedfs
from tests.unit.jobs.node_cache.caches import artifact

SIZE = 40_000_000
KEY = "merge-1"
SOURCE = parse_source(f"s3://{ARTIFACTS}/{KEY}")
WEIGHTS = "inner/model.safetensors"


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to a server that has an artifact."""
    with seaweedfs(tmp_path / "s3") as server, proxy(server.endpoint) as between:
        artifact(tmp_path, KEY, SIZE)
        server.upload(ARTIFACTS, KEY, tmp_path / "store" / KEY)
        for name, value in {**server.secret(ADMIN), "AWS_ENDPOINT_URL": between.endpoint}.items():
            monkeypatch.setenv(name, value)
        yield between


@pytest.fixture
def store(door: Proxy) -> Store:  # noqa: ARG001 - the way to it
    """The artifact's folder, listed, so that a connection is there."""
    opened = open_store(SOURCE)
    opened.list_folder("inner")
    return opened


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
def test_a_fetch_whose_connections_break_off_is_right(door: Proxy, tmp_path: Path, reset: bool) -> None:
    door.cut_at = [6 * MIB, 13 * MIB, 22 * MIB, 31 * MIB]
    door.reset = reset
    fetch(SOURCE, tmp_path / "to")
    assert (tmp_path / "to" / WEIGHTS).read_bytes() == (tmp_path / "store" / KEY / WEIGHTS).read_bytes()
    assert door.cuts == 4


def test_a_range_that_broke_off_goes_on_after_its_last_piece(door: Proxy, store: Store, tmp_path: Path) -> None:
    door.cut_at = [door.answered + 10 * MIB, door.answered + 25 * MIB]
    found = bytearray()
    store.read_pieces(WEIGHTS, 0, SIZE - 2, found.extend)
    assert found == (tmp_path / "store" / KEY / WEIGHTS).read_bytes()
    assert door.cuts == 2
    on_the_way = 8 * MIB
    """The most that sockets and proxy hold of a connection when it breaks off."""
    assert door.answered < SIZE + door.cuts * on_the_way, "from the beginning it would be 35 MiB more"


def test_a_thread_s_ranges_come_in_one_buffer_that_is_used_again(store: Store) -> None:
    buffers: list[Any] = []
    for offset in range(0, 20 * MIB, 2 * MIB):
        store.read_pieces(WEIGHTS, offset, 2 * MIB, lambda piece: buffers.append(piece.obj))
    assert len(buffers) >= 20
    assert all(each is buffers[0] for each in buffers)
    assert len(buffers[0]) == PIECE_BYTES


def test_ranges_that_were_read_whole_leave_their_connection_to_the_next(door: Proxy, store: Store) -> None:
    before = door.connections
    for offset in range(0, 20 * MIB, 2 * MIB):
        store.read(WEIGHTS, offset, MIB)
        store.read_pieces(WEIGHTS, offset + MIB, MIB, lambda _: None)
    assert door.connections == before
