"""Weight files of another size than the base's: which tensors go where, and what the key says of it."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.checkpoint.headers import SIZE_BYTES, parse_header
from ftm_jobs.checkpoint.output_layout import (
    OutputFile,
    OutputLayout,
    base_layout,
    new_file,
    parse_file_size,
    resharded,
)
from ftm_jobs.contract.keys import QuantizedBase, merge_key
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.documents import Documents
from ftm_jobs.merge.plan import MergeChoices, plan
from tests.unit.jobs.files import BASE_SHAPES, LLAMA_CONFIG, Shapes, header

INDEX = "model.safetensors.index.json"
SHAPES = st.dictionaries(
    st.text("abcdé", min_size=1, max_size=4),
    st.tuples(st.sampled_from(["F32", "BF16"]), st.tuples(st.integers(0, 40), st.integers(0, 20))),
    min_size=1,
    max_size=12,
)
KiB = 1024


def names(files: list[OutputFile]) -> list[list[str]]:
    return [[tensor.name for tensor in file.tensors] for file in files]


def planned(size: int | None, index: dict[str, object] | None = None, files: int = 1) -> OutputLayout:
    """A base of some files, and no adapter."""
    shapes = list(BASE_SHAPES.items())
    parts = [dict(shapes[at::files]) for at in range(files)]
    headers = [header(part, f"part-{at}.safetensors") for at, part in enumerate(parts)]
    base = BaseTensors("s3://models/base", "llama", False, headers)
    return plan(base, Documents(LLAMA_CONFIG, index), [], MergeChoices(max_shard_size=size))


@given(SHAPES, st.integers(1, 6000))
def test_files_hold_every_tensor_once_in_order_and_are_not_larger_than_asked(shapes: Shapes, size: int) -> None:
    files = resharded(base_layout([header(shapes)], {}), size)
    assert [name for file in names(files) for name in file] == list(shapes)
    for file in files:
        assert file.size <= size or len(file.tensors) == 1
        length = int.from_bytes(file.header[:SIZE_BYTES], "little")
        parsed = parse_header(file.name, file.header[SIZE_BYTES : SIZE_BYTES + length], file.size)
        assert [(each.name, each.dtype, each.shape) for each in parsed.tensors.values()] == [
            (each.name, each.dtype, each.shape) for each in file.tensors
        ]


@given(SHAPES, st.integers(1, 6000))
def test_no_file_could_hold_the_next_file_s_first_tensor(shapes: Shapes, size: int) -> None:
    files = resharded(base_layout([header(shapes)], {}), size)
    for file, after in pairwise(files):
        assert new_file(file.name, [*file.tensors, after.tensors[0]]).size > size


def test_a_tensor_larger_than_the_size_has_a_file_of_its_own() -> None:
    shapes: Shapes = {"a": ("F32", (10,)), "b": ("F32", (1000,)), "c": ("F32", (10,)), "d": ("F32", (10,))}
    files = resharded(base_layout([header(shapes)], {}), KiB)
    assert names(files) == [["a"], ["b"], ["c", "d"]]
    assert [file.name for file in files] == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def test_files_that_fit_in_one_become_one_without_an_index() -> None:
    output = planned(KiB * KiB, {"metadata": {}, "weight_map": {}}, files=2)
    assert [file.name for file in output.files] == ["model.safetensors"]
    assert not output.documents
    assert output.dropped == {INDEX}


@pytest.mark.parametrize("index", [None, {"metadata": {"total_size": 1, "total_parameters": 1}, "weight_map": {}}])
def test_several_files_have_an_index_whether_the_base_has_one_or_not(index: dict[str, object] | None) -> None:
    output = planned(KiB, index)
    found = json.loads(output.documents[INDEX])
    tensors = [tensor for file in output.files for tensor in file.tensors]
    assert len(output.files) > 1
    assert found["metadata"]["total_size"] == sum(tensor.size for tensor in tensors) == 1216
    assert found["metadata"].get("total_parameters") == (608 if index else None)
    assert found["weight_map"] == {tensor.name: file.name for file in output.files for tensor in file.tensors}
    assert not output.dropped


def test_without_a_size_files_are_the_base_s() -> None:
    output = planned(None, {"metadata": {}, "weight_map": {}}, files=2)
    assert [file.base_file for file in output.files] == ["part-0.safetensors", "part-1.safetensors"]
    assert not output.documents
    assert not output.dropped


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5_000_000_000), ("500MB", 500_000_000), ("2GiB", 2 * KiB**3), ("60KB", 60_000), ("60kB", 60_000),
        ("1.5 KiB", 1536), ("0.1GB", 100_000_000), ("7B", 7), ("1TB", 10**12), ("1TiB", KiB**4),
    ],
)  # fmt: skip
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_file_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "5", "GB", "5 G", "5gb", "-5GB", "0GB", "0.1B", "1e3MB", "5GBs", "٥GB", "infGB", "9" * 99 + "GB"],
)
def test_what_is_no_size_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_file_size(text)
    assert caught.value.reason is Reason.INVALID_SIZE
    assert caught.value.message == (
        f'max-shard-size "{text[:100]}" is not a size of at least one byte: write a number and a unit, '
        "as in 5GB, 500MB or 2GiB"
    )


def test_only_a_size_that_is_given_is_part_of_the_key() -> None:
    inputs = "sha256:base", [("sha256:adapter", 1.0)], QuantizedBase.FULL_PRECISION
    assert merge_key(*inputs, None) == merge_key(*inputs) == "merge-13aa14bd57981166791744434b99ec9b"
    assert len({merge_key(*inputs), merge_key(*inputs, 5), merge_key(*inputs, 6)}) == 3
