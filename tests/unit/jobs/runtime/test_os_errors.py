"""What an operating system refuses is said in words that a person can act on."""

import errno
import os
from pathlib import Path

import pytest

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.stores.file import FileStore


@pytest.mark.parametrize(
    ("number", "kind", "reason", "sentence"),
    [
        (errno.EACCES, InvalidInput, Reason.ACCESS_DENIED, "/x may not be read or written by this user: change its"),
        (errno.EROFS, InvalidInput, Reason.ACCESS_DENIED, "/x is on a file system that can only be read: choose"),
        (errno.ENAMETOOLONG, InvalidInput, Reason.INVALID_URI, "/x has a longer name than the file system takes"),
        (errno.ENOSPC, Failed, Reason.DISK_FULL, "/x: no space left on the disk; free some or choose another folder"),
        (errno.EMFILE, Failed, Reason.STORE_UNAVAILABLE, "/x: too many files are open; raise `ulimit -n`"),
        (errno.EBADMSG, Failed, Reason.STORE_UNAVAILABLE, "/x: bad message; run this again, or choose another folder"),
    ],
)
def test_each_refusal_says_what_to_do(number: int, kind: type[Exception], reason: Reason, sentence: str) -> None:
    error = explain(OSError(number, os.strerror(number), "/x"), "/x")
    assert isinstance(error, kind)
    assert error.reason is reason
    assert error.message.startswith(sentence)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_no_number_of_an_error_and_no_doubled_path_reaches_a_person(number: int) -> None:
    message = explain(OSError(number, os.strerror(number), "/x"), "/x").message
    assert "Errno" not in message
    assert message.count("/x") == 1


def test_numbers_of_errors_inside_of_a_librarys_text_are_left_out() -> None:
    failed = Failed(Reason.STORE_UNAVAILABLE, "s3://a: pool(host): [Errno 111] Connection refused")
    assert failed.message == "s3://a: pool(host): Connection refused"


def test_a_file_where_a_folder_is_wanted_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(InvalidInput, match="is a file, or leads through one, where a folder must be"):
            FileStore(folder).list()
        with pytest.raises(InvalidInput, match="is a file, or leads through one"):
            FileStore(folder).put("name", b"x")
