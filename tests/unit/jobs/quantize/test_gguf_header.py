"""GGUF headers, read against ggml's own writer, and damaged ones."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from ftm_jobs.quantize.gguf.file_types import STORAGE, Weight
from ftm_jobs.quantize.gguf.header import InvalidGguf, MetadataList, read_gguf


def written(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_rope_freq_base(500000.0)
    writer.add_chat_template("{{ messages }}")
    writer.add_token_list([f"token {number}" for number in range(300)])
    writer.add_token_scores([0.5] * 300)
    writer.add_tensor("token_embd.weight", np.zeros((300, 64), np.float32))
    quantized = gguf.quants.quantize(np.ones((10, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_of_ggml_s_own_writer_is_read(tmp_path: Path) -> None:
    header = read_gguf(written(tmp_path / "m.gguf"))
    assert header.metadata["general.architecture"] == "llama"
    assert header.number("block_count") == 3
    assert header.number("rope.freq_base") == 500000.0
    assert header.number("context_length") is None
    assert header.metadata["tokenizer.chat_template"] == "{{ messages }}"
    assert header.metadata["tokenizer.ggml.tokens"] == MetadataList(300)
    assert header.tensors["token_embd.weight"].storage == "F32"
    assert header.tensors["output.weight"].storage == "Q8_0"
    assert header.data_offset == gguf.GGUFReader(tmp_path / "m.gguf").data_offset
    assert header.weights["output.weight"] == Weight("output.weight", (10, 64))


def test_block_sizes_are_ggml_s() -> None:
    for name, storage in STORAGE.items():
        kind = gguf.GGMLQuantizationType[name]
        assert (storage.id, (storage.block, storage.block_bytes)) == (kind.value, gguf.GGML_QUANT_SIZES[kind])


def test_a_file_that_was_cut_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = written(tmp_path / "m.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, 6000, 97), len(whole) - 33]:
        cut.write_bytes(whole[:length])
        with pytest.raises(InvalidGguf):
            read_gguf(cut)


def test_whatever_byte_of_the_header_is_wrong_nothing_but_a_refusal_comes_out(tmp_path: Path) -> None:
    whole = written(tmp_path / "m.gguf").read_bytes()
    changed = tmp_path / "changed.gguf"
    for place in range(400):
        changed.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            read_gguf(changed)
        except InvalidGguf:
            continue


LIST_WITHOUT_VALUES = struct.pack("<4sIQQQcIIQ", b"GGUF", 3, 0, 1, 1, b"a", 9, 0, 1000)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(100), "it does not begin as a GGUF file does"),
        (b"GGUF" + (2).to_bytes(4, "little") + bytes(100), "it has version 2, not 3"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, "it declares 18446744073709551615 tensors"),
        (LIST_WITHOUT_VALUES, "it has 49 bytes, and its header goes on"),
    ],
)
def test_what_is_no_gguf_file_is_refused_in_words(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(InvalidGguf) as refused:
        read_gguf(path)
    assert str(refused.value) == said
