"""Files are fetched by many ranges at once, whatever their sizes, and what is wrong leaves nothing behind."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ftm_jobs.artifacts.fetch import FEWEST_READERS, READERS, fetch_file, readers_of
from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores.file import FileStore

BLOCK, PIECE = 4096, 1000
NAME = "model.safetensors"


class RemoteFolder(FileStore):
    """Stands in for an object store: a folder that is read by requests, `wanted` of which are awaited at first."""

    block_bytes = BLOCK
    readers = 4

    def __init__(self, root: Path, wanted: int) -> None:
        super().__init__(root)
        self._all_asked = threading.Barrier(wanted)
        self._first = set(range(0, wanted * BLOCK, BLOCK))
        self._lock = threading.Lock()
        self._at_once = 0
        self.most_at_once = 0

    def read_pieces(self, path: str, offset: int, size: int, take: Callable[[memoryview], None]) -> None:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        if offset in self._first:
            self._all_asked.wait(timeout=120)
        piece = memoryview(bytearray(PIECE))
        for start in range(0, size, PIECE):
            count = min(PIECE, size - start)
            self.read_into(path, offset + start, piece[:count])
            take(piece[:count])
        with self._lock:
            self._at_once -= 1


def written(folder: Path, blocks: int) -> ManifestFile:
    folder.mkdir()
    content = b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(blocks)) + b"the end"
    (folder / NAME).write_bytes(content)
    return ManifestFile(path=NAME, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_a_model_of_one_file_gets_all_readers_and_a_small_file_beside_it_a_few() -> None:
    assert readers_of(14_000, 14_010) == READERS - 1
    assert readers_of(10, 14_010) == FEWEST_READERS
    assert [readers_of(1, 3)] * 3 == [READERS // 3] * 3
    assert readers_of(0, 0) == FEWEST_READERS


@pytest.mark.parametrize("readers", [FEWEST_READERS, READERS])
def test_so_many_ranges_are_read_at_once_and_each_piece_is_put_where_it_belongs(tmp_path: Path, readers: int) -> None:
    file = written(tmp_path / "store", 40 * readers)
    store = RemoteFolder(tmp_path / "store", wanted=readers)
    assert not fetch_file(store, tmp_path, Progress("fetch", file.size), file, readers=readers)
    assert (tmp_path / NAME).read_bytes() == (tmp_path / "store" / NAME).read_bytes()
    assert store.most_at_once <= readers + 2
    assert fetch_file(store, tmp_path, Progress("fetch", file.size), file, readers=readers), "it is there already"


def test_one_wrong_byte_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    file = written(tmp_path / "store", 10)
    with (tmp_path / "store" / NAME).open("r+b") as stored:
        stored.seek(5 * BLOCK + 17)
        stored.write(b"!")
    with pytest.raises(InvalidInput, match=f"has sha256 .*, not {file.sha256}") as refused:
        fetch_file(RemoteFolder(tmp_path / "store", wanted=1), tmp_path / "to", Progress("fetch", file.size), file)
    assert refused.value.reason == Reason.CORRUPT_ARTIFACT
    assert list((tmp_path / "to").iterdir()) == []
