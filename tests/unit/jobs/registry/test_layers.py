"""Layers are tar archives of a fixed form: the same files give the same bytes, of the size that was promised."""

import hashlib
import io
import tarfile
from collections.abc import Iterator

import pytest

from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.errors import InvalidInput
from ftm_jobs.registry.layers import FULL_LAYER_BYTES, LARGEST_LAYER_BYTES, Layer, layers

GB = 1000**3


def file(path: str, size: int) -> ManifestFile:
    return ManifestFile(path=path, size=size, sha256="0" * 64)


def content(asked: ManifestFile) -> Iterator[bytes]:
    yield asked.path.encode()[:1] * (asked.size // 2)
    yield asked.path.encode()[:1] * (asked.size - asked.size // 2)


def archive(layer: Layer) -> bytes:
    return b"".join(layer.blocks(content))


@pytest.mark.parametrize(
    "paths",
    [["a"], ["a", "b/c", "b/d"], ["x" * 200], ["weiß.json"], ["one/two/three"]],
    ids=["one", "folder", "long name", "no ASCII", "folders"],
)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_a_layer_is_a_tar_archive_of_the_size_that_it_promises(paths: list[str], size: int) -> None:
    layer = Layer(tuple(file(path, size) for path in paths))
    data = archive(layer)
    assert len(data) == layer.size
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert {entry.name: entry.size for entry in opened if entry.isfile()} == dict.fromkeys(paths, size)


def test_a_file_of_more_than_8_gib_has_its_whole_size_in_its_header() -> None:
    size = 9 * GB
    header = next(Layer((file("large", size),)).blocks(content))
    assert tarfile.TarFile(fileobj=io.BytesIO(bytes(header))).next().size == size  # type: ignore[union-attr]


def test_the_bytes_stay_as_they_are() -> None:
    """Other bytes would have every image of every user pushed and pulled again."""
    digest = hashlib.sha256(archive(Layer((file("config.json", 3), file("tokenizer/vocab.json", 600))))).hexdigest()
    assert digest == "c765e0d1e6d2c5203e46ab3172e0a0efa15c8300d30129873d62e002ccb06837"


def test_small_files_share_a_layer_and_large_ones_have_their_own() -> None:
    files = [file("b", 3 * GB), file("a", 1000), file("c", GB), file("d", GB), file("e", GB)]
    assert [[each.path for each in layer.files] for layer in layers(files)] == [["a"], ["b"], ["c", "d"], ["e"]]
    assert all(layer.size <= FULL_LAYER_BYTES + 4096 or len(layer.files) == 1 for layer in layers(files))


def test_a_file_that_fills_a_layer_alone_is_taken_and_a_larger_one_refused_by_name() -> None:
    most = LARGEST_LAYER_BYTES - 4096
    assert len(layers([file("model.safetensors", most)])) == 1
    with pytest.raises(
        InvalidInput, match=r"model\.safetensors has 10000000000 bytes, and registries take layers below"
    ):
        layers([file("model.safetensors", 10 * GB)])
