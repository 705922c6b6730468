"""A safetensors header is checked before its file is trusted."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.checkpoint.headers import DTYPE_BITS, LARGEST_HEADER_BYTES, SIZE_BYTES, Header, header_size, parse_header
from ftm_jobs.errors import InvalidInput, Reason
from tests.unit.jobs.files import Shapes, entries, header, safetensors, zeros

SHAPES = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(
        st.sampled_from([dtype for dtype, bits in DTYPE_BITS.items() if bits >= 8]),
        st.lists(st.integers(0, 5), max_size=3).map(tuple),
    ),
    max_size=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def parse(content: bytes) -> Header:
    size = header_size("model.safetensors", content[:SIZE_BYTES], len(content))
    return parse_header("model.safetensors", content[SIZE_BYTES : SIZE_BYTES + size], len(content))


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(content)
    assert caught.value.reason is Reason.INVALID_SAFETENSORS
    return caught.value.message


@given(SHAPES)
def test_a_right_file_is_read_as_it_was_written(shapes: Shapes) -> None:
    parsed = parse(zeros(shapes))
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in parsed.tensors.items()} == shapes


@given(SHAPES, st.data())
def test_a_changed_file_is_refused_or_its_tensors_lie_inside_it_without_overlap(
    shapes: Shapes, data: st.DataObject
) -> None:
    content = bytearray(zeros(shapes))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        parsed = parse(bytes(content))
    except InvalidInput:
        return
    end = parsed.data_offset
    for tensor in parsed.tensors.values():
        assert tensor.offset == end
        end += tensor.size
    assert end == len(content)


@given(JSON, st.binary(max_size=64))
def test_no_json_as_a_header_crashes_the_parser(found: Any, data: bytes) -> None:
    with suppress(InvalidInput):
        parse(safetensors(found, data))


@given(JSON)
def test_any_json_as_a_tensor_is_refused_naming_it(entry: Any) -> None:
    assert "model.safetensors" in refusal(safetensors({"some.weight": entry}, b""))


def test_tensors_are_in_the_order_of_their_bytes_not_of_their_names() -> None:
    assert list(header({"z": ("U8", (1,)), "a": ("U8", (1,))}).tensors) == ["z", "a"]


TWO = {"a": ("F32", (2, 2)), "b": ("BF16", (3,))}


def lying(name: str, **changes: Any) -> bytes:
    found = entries(TWO)
    found[name] |= changes
    return safetensors(found, bytes(22))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "model.safetensors has 0 bytes, too few for a header"),
        (b"\xff" * 8, f"declares a header of {2**64 - 1} bytes, more than {LARGEST_HEADER_BYTES}"),
        ((1000).to_bytes(8, "little") + b"{}", "declares a header of 1000 bytes but has 10 bytes in all"),
        (zeros(TWO)[:-1], 'its last tensor "b" ends at byte'),
        (zeros(TWO)[:-1], "it is cut short: upload it again"),
        (zeros(TWO) + b"x", "it has bytes that belong to no tensor"),
        (safetensors(b"nothing", b""), "has a header that is not JSON"),
        (safetensors(b"[" * 100_000, b""), "has a header that is not JSON"),
        (safetensors(b"\xff\xff", b""), "has a header that is not JSON"),
        (safetensors([], b""), "has a header that is not a JSON object"),
        (safetensors(b'{"a": {}, "a": {}}', b""), 'names "a" twice in its header'),
        (safetensors({"__metadata__": {"format": 1}}, b""), "has a __metadata__ that is not a map of strings"),
        (safetensors({"a": {"dtype": "F32"}}, b""), 'tensor "a" has no dtype, shape and data_offsets'),
        (lying("a", dtype="F31"), "tensor \"a\" has the unknown dtype 'F31'"),
        (lying("a", shape=[2, -2]), 'tensor "a" has the shape [2, -2]'),
        (lying("a", shape=[2, True]), 'tensor "a" has the shape [2, True]'),
        (lying("a", shape=[1] * 17), 'tensor "a" has the shape'),
        (lying("a", shape=[2, 3]), 'tensor "a" has 16 bytes at 0, but F32 of shape [2, 3] needs 24'),
        (lying("a", data_offsets=[0]), 'tensor "a" has data_offsets [0]'),
        (lying("a", data_offsets=[16, 0]), 'tensor "a" has -16 bytes at 16'),
        (lying("b", data_offsets=[8, 14]), 'tensor "b" begins at byte 8 and overlaps the end of "a"'),
        (lying("b", data_offsets=[18, 24]), 'tensor "b" begins at byte 18 and leaves a gap after the end of "a"'),
        (lying("a", data_offsets=[2, 18]), 'tensor "a" begins at byte 2 and leaves a gap after the header'),
    ],
)
def test_a_lying_file_is_refused_with_its_name_and_the_tensors(content: bytes, sentence: str) -> None:
    assert sentence in refusal(content)


def test_a_dtype_of_half_a_byte_must_fill_whole_bytes() -> None:
    found = {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}
    assert "F4 of shape [3] needs 1.5" in refusal(safetensors(found, b"x"))
    assert parse(zeros({"a": ("F4", (4,))})).tensors["a"].size == 2


def test_padding_after_the_header_is_accepted() -> None:
    text = json.dumps(entries(TWO)).encode() + b" " * 7
    assert len(parse(safetensors(text, bytes(22))).tensors) == 2
