"""llama.cpp's arithmetic is compiled for several processors, for none with AMX: images/llama.cpp/build.sh says why."""

from pathlib import Path

AMX_KERNELS = b"ggml_backend_amx_mul_mat"


def test_no_variant_multiplies_by_amx(tools: Path) -> None:
    variants = sorted((tools / "bin").glob("libggml-cpu-*.so"))

    assert "libggml-cpu-zen4.so" in [each.name for each in variants]
    assert [each.name for each in variants if AMX_KERNELS in each.read_bytes()] == []
