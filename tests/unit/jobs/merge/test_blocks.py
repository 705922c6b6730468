"""A weight file is cut into blocks."""

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftm_jobs.checkpoint.headers import DTYPE_BITS
from ftm_jobs.checkpoint.output_layout import OutputFile, OutputTensor, TensorChange, base_layout, untouched
from ftm_jobs.merge import blocks as layout
from ftm_jobs.merge.blocks import chunk_rows, cut
from tests.unit.jobs.files import Shapes, header

SHAPES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(st.sampled_from(["F32", "BF16"]), st.tuples(st.integers(0, 40), st.integers(0, 20))),
    min_size=1,
    max_size=6,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "CHUNK_BYTES", 256)


def changing(shapes: Shapes, changed: Collection[str]) -> OutputFile:
    """A file of these tensors, some of them with a change."""
    parsed = header(shapes)
    tensors = {
        name: replace(untouched(parsed.file, parsed.tensors[name]), changes=(TensorChange(0),)) for name in changed
    }
    (file,) = base_layout([parsed], tensors)
    return file


@given(SHAPES, st.integers(1, 2000), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_cover_the_file_once_and_pieces_the_changed_tensors_once(
    shapes: Shapes, block_bytes: int, data: st.DataObject
) -> None:
    parsed = header(shapes)
    changed = data.draw(st.sets(st.sampled_from(sorted(shapes))))
    blocks = list(cut(changing(shapes, changed), block_bytes))
    end = 0
    for block in blocks:
        assert block.offset == end
        end += block.size
    assert end == parsed.file_size
    rows: dict[str, int] = {}
    for block in blocks:
        for piece in block.pieces:
            tensor = piece.tensor
            row_bytes = tensor.shape[1] * DTYPE_BITS[tensor.dtype] // 8
            assert piece.first_row == rows.get(tensor.name, 0)
            assert piece.first_row % chunk_rows(tensor) == 0
            assert block.offset + piece.offset == parsed.tensors[tensor.name].offset + piece.first_row * row_bytes
            assert piece.offset + piece.rows * row_bytes <= block.size
            assert piece.rows % chunk_rows(tensor) == 0 or piece.first_row + piece.rows == tensor.shape[0]
            rows[tensor.name] = piece.first_row + piece.rows
    assert rows == {name: shapes[name][1][0] for name in changed if all(shapes[name][1])}


@given(SHAPES, st.integers(1, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_block_is_no_longer_than_asked_unless_one_chunk_of_rows_is(shapes: Shapes, block_bytes: int) -> None:
    for block in cut(changing(shapes, shapes.keys()), block_bytes):
        assert block.size <= block_bytes or len(block.pieces) == 1


def test_a_chunk_is_as_many_rows_of_fp32_as_fit_and_never_few() -> None:
    def rows(*shape: int) -> int:
        return chunk_rows(OutputTensor("a", "BF16", shape, None))

    assert rows(100_000, 4) == 16
    assert rows(10, 1_000_000) == 16
    assert rows(8192, 28672) == 16
    assert rows(32001, 4096) == 48, "the last chunk would be a single row with 64"
    assert 32001 % rows(32001, 28672) >= 16
    assert rows(8, 100, 4) == 16
