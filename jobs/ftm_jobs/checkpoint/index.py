"""Says which weight files a base has, and checks model.safetensors.index.json.

Pure: names and parsed JSON come in. An index can only name files beside it, so no name with a path is accepted.
"""

from collections.abc import Collection, Mapping
from typing import Any

from ftm_jobs.checkpoint.headers import Header
from ftm_jobs.checkpoint.refusals.missing_files import Contents, missing_base_file
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.names import is_plain_name

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def weight_files(uri: str, index: Mapping[str, Any] | None, files: Collection[str]) -> list[str]:
    """Returns the safetensors files of a base, sorted. `index` is the parsed index file, None when there is none.

    Raises InvalidInput: PickleWeights, MissingFile or InvalidIndex.
    """
    if index is None:
        if SINGLE_FILE in files:
            return [SINGLE_FILE]
        raise missing_base_file(Contents(uri, files), SINGLE_FILE)
    label = f"{uri}/{INDEX_FILE}"
    names = sorted(set(weight_map(label, index).values()))
    for name in names:
        if name not in files:
            raise InvalidInput(
                Reason.MISSING_FILE, f'{label} names "{name}", which is not beside it: upload it or correct the index'
            )
    if SINGLE_FILE in files and SINGLE_FILE not in names:
        raise InvalidInput(
            Reason.INVALID_INDEX,
            f"{label} does not name {SINGLE_FILE}, which is beside it: remove one of the two models",
        )
    return names


def weight_map(label: str, index: Mapping[str, Any]) -> dict[str, str]:
    """Returns the file of each tensor. Raises InvalidInput (InvalidIndex); `label` is how messages name the index."""
    files = index.get("weight_map")
    if not isinstance(files, dict) or not files:
        raise InvalidInput(Reason.INVALID_INDEX, f"{label} has no weight_map with the file of each tensor")
    for tensor, name in files.items():
        if not isinstance(name, str) or not is_plain_name(name) or not name.endswith(".safetensors"):
            raise InvalidInput(
                Reason.INVALID_INDEX,
                f'{label} puts tensor "{tensor}" in {str(name)[:200]!r}: '
                "only safetensors files beside the index may be named",
            )
    return files


def check_index(uri: str, index: Mapping[str, Any] | None, headers: Collection[Header]) -> None:
    """Checks that no tensor is in two files, and that each file holds what the index says.

    Raises InvalidInput (InvalidIndex).
    """
    where: dict[str, str] = {}
    for header in headers:
        for tensor in header.tensors:
            if tensor in where:
                raise InvalidInput(
                    Reason.INVALID_INDEX,
                    f'{uri}: tensor "{tensor}" is in {where[tensor]} and in {header.file}: keep one',
                )
            where[tensor] = header.file
    if index is None:
        return
    for tensor, name in weight_map(f"{uri}/{INDEX_FILE}", index).items():
        if where.get(tensor) != name:
            place = f"it is in {where[tensor]}" if tensor in where else "no file holds it"
            raise InvalidInput(
                Reason.INVALID_INDEX,
                f'{uri}/{INDEX_FILE} puts tensor "{tensor}" in {name}, but {place}: correct the index',
            )
