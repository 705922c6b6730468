"""Small files that whoever loads the model must read: refused by name where they are broken."""

from pathlib import Path

import pytest

from ftm_jobs.checkpoint.small_files import LARGEST_PARSED_BYTES, refuse_broken_files
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.file import FileStore

LARGE = b'{"a": "' + LARGEST_PARSED_BYTES * b"x" + b'"}\n'


def check(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    store = FileStore(folder)
    refuse_broken_files(store, store.list(), files)


def test_whole_files_and_those_that_nobody_must_read_pass(tmp_path: Path) -> None:
    check(tmp_path, {"tokenizer.json": LARGE, "generation_config.json": b"{}", "__init__.py": b"", "notes.txt": b""})


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("tokenizer.json", b"", "tokenizer.json is empty: upload it again"),
        ("merges.txt", b"", "merges.txt is empty: upload it again"),
        ("tokenizer.json", LARGE[:-4], "tokenizer.json does not end as JSON does, so it was cut: upload it again"),
        ("tokenizer_config.json", b'{"a": ', "tokenizer_config.json is not JSON"),
        ("vocab.json", b"<html>", "vocab.json holds a web page"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(tmp_path, {"config.json": b"{}", name: content})
    assert caught.value.reason is Reason.CORRUPT_SOURCE
    assert f"{tmp_path.as_uri()}/{sentence}" in caught.value.message
