"""The files of a base's weights are found by its index, which may not say everything."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.checkpoint.index import INDEX_FILE, check_index, weight_files
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.names import is_plain_name
from tests.unit.jobs.files import header

URI = "s3://models/base"
SHARD = "model-00001-of-00001.safetensors"


def index(name: Any = SHARD, tensor: str = "a") -> dict[str, Any]:
    return {"weight_map": {tensor: name}}


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        ".x.safetensors",
        "C:x.safetensors",
        "x\0.safetensors",
        "x\n.safetensors",
        "\ud800.safetensors",
        "x.bin",
        "",
        7,
        None,
        ["x.safetensors"],
    ],
)
def test_an_index_may_only_name_safetensors_files_beside_it(name: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        weight_files(URI, index(name), {INDEX_FILE: 1, str(name): 1})
    assert caught.value.reason is Reason.INVALID_INDEX
    assert f'{URI}/{INDEX_FILE} puts tensor "a" in' in caught.value.message


@given(st.text())
def test_a_plain_name_stays_in_its_folder(name: str) -> None:
    if is_plain_name(name):
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\\0:")


@pytest.mark.parametrize(
    ("files", "found", "reason", "sentence"),
    [
        ([], None, Reason.MISSING_FILE, "s3://models/base has no model.safetensors: upload it or correct the URI"),
        (["pytorch_model.bin"], None, Reason.PICKLE_WEIGHTS, "has its weights in pytorch_model.bin, a pickle"),
        (["consolidated.00.pth"], None, Reason.PICKLE_WEIGHTS, "save it as model.safetensors (safetensors)"),
        ([INDEX_FILE], {}, Reason.INVALID_INDEX, "has no weight_map with the file of each tensor"),
        ([INDEX_FILE], {"weight_map": []}, Reason.INVALID_INDEX, "has no weight_map"),
        ([INDEX_FILE], index(), Reason.MISSING_FILE, f'names "{SHARD}", which is not beside it'),
        ([INDEX_FILE, SHARD, "model.safetensors"], index(), Reason.INVALID_INDEX, "remove one of the two models"),
    ],
)
def test_a_base_without_readable_weights_is_refused(
    files: list[str], found: dict[str, Any] | None, reason: Reason, sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        weight_files(URI, found, files)
    assert caught.value.reason is reason
    assert sentence in caught.value.message


def test_pickles_beside_safetensors_are_ignored() -> None:
    assert weight_files(URI, None, ["model.safetensors", "pytorch_model.bin"]) == ["model.safetensors"]
    assert weight_files(URI, index(), [INDEX_FILE, SHARD, "training_args.bin"]) == [SHARD]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (index(tensor="b"), f'puts tensor "b" in {SHARD}, but no file holds it: correct the index'),
        (index("other.safetensors"), f'puts tensor "a" in other.safetensors, but it is in {SHARD}'),
    ],
)
def test_an_index_must_agree_with_the_headers(found: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_index(URI, found, [header({"a": ("F32", (1,))}, SHARD)])
    assert caught.value.reason is Reason.INVALID_INDEX
    assert sentence in caught.value.message


def test_a_tensor_in_two_files_is_refused() -> None:
    twice = [header({"a": ("F32", (1,))}, name) for name in ("one.safetensors", "two.safetensors")]
    with pytest.raises(InvalidInput, match=r'tensor "a" is in one.safetensors and in two.safetensors: keep one'):
        check_index(URI, None, twice)
