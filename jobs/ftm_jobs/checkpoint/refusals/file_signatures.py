"""Says by its first bytes what a file holds in place of the weights or the JSON that its name promises. Pure."""

import re

POINTER_SIZES = range(120, 200)
"""Bytes of a Git LFS pointer: three short lines, of which the second has a sha256."""
SIGNATURE_BYTES = 512

_LFS = b"version https://git-lfs.github.com/spec/"
_LFS_SIZE = re.compile(rb"^size (\d+)$", re.MULTILINE)
_SIGNATURES = (
    (b"# xet version", "holds a git-xet pointer instead of the file: fetch it (git xet checkout, or hf download)"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it"),
    (b"BZh", "is compressed with bzip2: unpack it"),
    (b"PK\x03\x04", "is a zip archive, as torch.save writes it: save the weights as safetensors"),
    (b"\x80\x02", "is a pickle, which can run code when it is loaded: save the weights as safetensors"),
    (b"\x80\x04", "is a pickle, which can run code when it is loaded: save the weights as safetensors"),
    (b"GGUF", "is a GGUF file: name the model in safetensors that it was made from"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes it: save the weights as safetensors"),
)
_MARKUP = (
    (b"<!doctype html", "holds a web page, as a download that was refused or redirected leaves it: download it again"),
    (b"<html", "holds a web page, as a download that was refused or redirected leaves it: download it again"),
    (b"<?xml", "holds XML, as a store answers a refused download: download it again"),
    (b"<error", "holds XML, as a store answers a refused download: download it again"),
    (b"{", "holds JSON, such as an error that a server answered, instead of weights: download it again"),
)


def foreign_content(start: bytes, size: int) -> str | None:
    """Returns what a file of `size` bytes holds instead of what it should, with what to do; None where it is unknown.

    `start` are its first bytes, SIGNATURE_BYTES of them where it has so many. A file in JSON is told from weights by
    its brace, so this is asked of a file once it has proved not to be what its name says.
    """
    if size == 0:
        return "is empty: upload it again"
    if start.startswith(_LFS):
        stands_for = _LFS_SIZE.search(start)
        of_size = f" to {int(stands_for[1]):,} bytes" if stands_for and len(stands_for[1]) < 20 else ""
        return f"holds a Git LFS pointer{of_size} instead of the file: run `git lfs pull` where it was cloned"
    for signature, text in _SIGNATURES:
        if start.startswith(signature):
            return text
    begin = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:16].lower()
    for markup, text in _MARKUP:
        if begin.startswith(markup):
            return text
    if not any(start):
        return "begins with zeros alone, as a download that broke off leaves it: download it again"
    return None


def is_pointer(start: bytes) -> bool:
    """Says whether a file is a Git LFS or git-xet pointer."""
    return start.startswith((_LFS, b"# xet version"))
