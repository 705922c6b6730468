"""Lists a model's weight files and reads their headers: the index, the files it names, and the tensors in each.

Headers come by range requests, so no weight file is read whole here (the local disk's store hashes its files, which
needs no traffic).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ftm_jobs.checkpoint.configs import parse_json
from ftm_jobs.checkpoint.headers import SIZE_BYTES, Header, Tensor, header_size, main_dtype, parse_header
from ftm_jobs.checkpoint.index import INDEX_FILE, check_index, weight_files
from ftm_jobs.checkpoint.refusals.file_signatures import (
    SIGNATURE_BYTES,
    foreign_content,
)
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.stores import Store
from ftm_jobs.stores.names import is_plain_name

LARGEST_JSON_BYTES = 32 * 1024 * 1024
FIRST_READ_BYTES = 128 * 1024
"""Holds most headers, so that one request is enough."""
REQUESTS = 8
"""The most requests under way at once."""


@dataclass(frozen=True)
class WeightFiles:
    """The safetensors files of a model, by their headers."""

    headers: tuple[Header, ...]
    """In the files' order."""
    index: Mapping[str, object] | None = field(default=None, repr=False)
    """model.safetensors.index.json, if there is one."""

    @property
    def names(self) -> list[str]:
        return [header.file for header in self.headers]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for header in self.headers for tensor in header.tensors.values()]

    @property
    def tensor_bytes(self) -> int:
        return sum(tensor.size for tensor in self.tensors)

    @property
    def dtype(self) -> str:
        """The dtype that holds most bytes."""
        return main_dtype(self.tensors)


def list_files(store: Store) -> dict[str, int]:
    """Returns sizes by name of the folder's files. Raises InvalidInput (SourceNotFound) when it is empty."""
    files = {name: size for name, size in store.list().items() if is_plain_name(name)}
    if not files and not store.folders():
        raise InvalidInput(
            Reason.SOURCE_NOT_FOUND, f"{store.uri} is not there or holds no files: upload them or correct the URI"
        )
    return files


def read_weight_files(store: Store, files: Mapping[str, int]) -> WeightFiles:
    """Reads the index and all headers, and checks that they agree; `files` are sizes by name.

    Raises InvalidInput: PickleWeights, MissingFile, InvalidIndex or InvalidSafetensors.
    """
    index = read_json(store, files, INDEX_FILE, Reason.INVALID_INDEX) if INDEX_FILE in files else None
    names = weight_files(store.uri, index, files)
    headers = read_headers(store, {name: files[name] for name in names})
    check_index(store.uri, index, headers)
    return WeightFiles(headers, index)


def read_headers(store: Store, sizes: Mapping[str, int]) -> tuple[Header, ...]:
    """Reads and validates the headers of weight files of the given sizes, by a request or two for each."""
    return tuple(in_order(lambda name: _header(store, name, sizes[name]), sizes, threads=REQUESTS, ahead=REQUESTS))


def read_json(
    store: Store, files: Mapping[str, int], name: str, reason: Reason = Reason.INVALID_CONFIG
) -> dict[str, object]:
    """Reads a JSON object. Raises InvalidInput (MissingFile) when it is not listed, else with `reason`."""
    label = store.describe(name)
    if name not in files:
        raise InvalidInput(Reason.MISSING_FILE, f"{store.uri} has no {name}: upload it or correct the URI")
    if files[name] > LARGEST_JSON_BYTES:
        raise InvalidInput(reason, f"{label} has {files[name]} bytes, more than {LARGEST_JSON_BYTES}: correct it")
    return parse_json(label, bytes(store.read(name, 0, files[name])), reason)


def _header(store: Store, name: str, size: int) -> Header:
    start = store.read(name, 0, min(size, FIRST_READ_BYTES)) if size else bytearray()
    try:
        return _parsed(store, name, size, start)
    except InvalidInput as error:
        if foreign := foreign_content(bytes(start[:SIGNATURE_BYTES]), size):
            raise InvalidInput(error.reason, f"{store.describe(name)} {foreign}") from error
        raise


def _parsed(store: Store, name: str, size: int, start: bytearray) -> Header:
    label = store.describe(name)
    length = header_size(label, bytes(start[:SIZE_BYTES]), size)
    missing = SIZE_BYTES + length - len(start)
    if missing > 0:
        start += store.read(name, len(start), missing)
    parsed = parse_header(label, bytes(start[SIZE_BYTES : SIZE_BYTES + length]), size)
    return Header(name, parsed.data_offset, parsed.file_size, parsed.tensors)
