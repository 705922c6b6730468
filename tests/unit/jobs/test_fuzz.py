"""Files from strangers, right ones with a few wrong parts included: read, or refused by the tool's own error."""

import json
import tracemalloc
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_jobs.artifacts.journal import JOURNAL_NAME, Journal
from ftm_jobs.artifacts.manifest import read_manifest
from ftm_jobs.checkpoint.adapter_config import parse_adapter_config
from ftm_jobs.checkpoint.configs import parse_base_config, parse_json
from ftm_jobs.checkpoint.headers import SIZE_BYTES, header_size, parse_header
from ftm_jobs.checkpoint.index import weight_files
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.errors import LONGEST_MESSAGE, InvalidInput, Reason
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.names import is_plain_name
from tests.unit.jobs.files import ADAPTER_CONFIG, LLAMA_CONFIG, entries

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["../x", "/etc/passwd", "a\0b", "..", ".hidden", "a/b.safetensors", "a/../../b", "a//b", "\ud800", "C:\\x"]
    )
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))
HEADER = {"__metadata__": {"format": "pt"}, **entries({"a": ("BF16", (4, 2)), "b": ("F32", (3,))})}
INDEX = {"metadata": {"total_size": 28}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
MANIFEST = {
    "schemaVersion": 1,
    "key": "merge-0",
    "step": "merge",
    "recipe": 1,
    "inputs": [{"role": "base", "uri": "file:///b", "digest": "sha256:0"}],
    "files": [{"path": "model.safetensors", "size": 1, "sha256": "0" * 64}],
    "tools": {},
    "measurements": {},
}
FILES = {"m-1.safetensors": 1, "m-2.safetensors": 1, "model.safetensors": 1}
LARGEST_BYTES = 64 * 1024 * 1024
FEW = settings(deadline=None, max_examples=40)


@st.composite
def spoiled(draw: st.DrawFn, right: dict[str, Any]) -> Any:
    """A right document in which one to three parts are replaced, removed or added."""
    document = deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while draw(st.booleans()):
            inner = [child for child in _children(place) if isinstance(child, dict | list) and child]
            if not inner:
                break
            place = draw(st.sampled_from(inner))
        if isinstance(place, list):
            place[draw(st.integers(0, len(place) - 1))] = draw(JSON)
        elif place and draw(st.booleans()):
            place[draw(st.sampled_from(sorted(place)))] = draw(JSON)
        elif place and draw(st.booleans()):
            del place[draw(st.sampled_from(sorted(place)))]
        else:
            place[draw(st.text(max_size=8))] = draw(JSON)
    return document


def _children(place: Any) -> list[Any]:
    return list(place.values()) if isinstance(place, dict) else place


def is_own(error: InvalidInput, *reasons: Reason) -> None:
    """It says in one short line what is wrong."""
    assert error.reason in reasons
    assert "\n" not in error.message
    assert len(error.message) <= LONGEST_MESSAGE


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """No document, however it is spoiled, makes its reader ask for much."""
    tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    yield
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < LARGEST_BYTES


@given(spoiled(HEADER), st.binary(max_size=16), st.integers(0, 2**66))
@FEW
def test_headers(document: Any, tail: bytes, size: int) -> None:
    text = encoded(document)
    for content in (text, text + tail, text[: len(text) // 2], tail):
        try:
            assert header_size("f", size.to_bytes(9, "little")[:SIZE_BYTES], len(content)) <= len(content)
        except InvalidInput as error:
            is_own(error, Reason.INVALID_SAFETENSORS)
        try:
            header = parse_header("f", content, SIZE_BYTES + len(content) + 28)
        except InvalidInput as error:
            is_own(error, Reason.INVALID_SAFETENSORS)
        else:
            assert sum(tensor.size for tensor in header.tensors.values()) == 28


@given(spoiled(INDEX))
@FEW
def test_indices(document: Any) -> None:
    try:
        names = weight_files("s3://b", document, FILES)
    except InvalidInput as error:
        is_own(error, Reason.INVALID_INDEX, Reason.MISSING_FILE)
    else:
        assert set(names) <= FILES.keys()
        assert all(is_plain_name(name) for name in names)


@given(spoiled(ADAPTER_CONFIG), spoiled(LLAMA_CONFIG))
@FEW
def test_configs(adapter: Any, base: Any) -> None:
    for parse, document in ((parse_adapter_config, adapter), (parse_base_config, base)):
        try:
            parse("f", parse_json("f", encoded(document)))
        except InvalidInput as error:
            is_own(error, *Reason)


@given(spoiled(MANIFEST) | JSON)
@FEW
def test_manifests_and_journals(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    folder = FileStore(tmp_path_factory.mktemp("artifact"))
    for name in (MANIFEST_NAME, JOURNAL_NAME):
        folder.put(name, encoded(document))
    try:
        found = read_manifest(folder, folder.list())
    except InvalidInput as error:
        is_own(error, Reason.CORRUPT_ARTIFACT)
    else:
        assert found
        inside = [Path("/artifact", file.path) for file in found[0].files]
        assert all(path.resolve() == path and path.is_relative_to("/artifact") for path in inside)
    Journal(folder, "merge-0")


@given(st.dictionaries(st.text(max_size=8), JSON))
@FEW
def test_journals_of_the_right_key(tmp_path_factory: pytest.TempPathFactory, files: Any) -> None:
    folder = FileStore(tmp_path_factory.mktemp("artifact"))
    folder.put(JOURNAL_NAME, encoded({"key": "merge-0", "files": files}))
    assert all(is_plain_name(path) for path in Journal(folder, "merge-0")._before)
