"""A base's embedding and output layer are one weight only where transformers ties what the base holds."""

import json
from pathlib import Path

import pytest

from ftm_jobs.checkpoint.output_layout import OutputLayout
from ftm_jobs.errors import InvalidInput
from ftm_jobs.merge.inputs import load_inputs
from ftm_jobs.stores.source import parse_source
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, LLAMA_CONFIG, Shapes, zeros

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PREFIX = "base_model.model."
OF_HEAD: Shapes = {
    f"{PREFIX}lm_head.lora_A.weight": ("F32", (2, 8)),
    f"{PREFIX}lm_head.lora_B.weight": ("F32", (32, 2)),
}
ROWS: Shapes = {f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta": ("F32", (1, 8))}


def changed(layout: OutputLayout) -> set[str]:
    return {tensor.name for file in layout.files for tensor in file.tensors if tensor.changes}


def merged(
    folder: Path, base: bytes, adapter: Shapes, tied: bool | None = True, family: str = "llama", **config: object
) -> OutputLayout:
    for name, weights, settings in (
        ("base/model.safetensors", base, LLAMA_CONFIG | {"model_type": family, "tie_word_embeddings": tied}),
        ("adapter/adapter_model.safetensors", zeros(adapter), ADAPTER_CONFIG | config),
    ):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(weights)
        (file.parent / ("config.json" if "base" in name else "adapter_config.json")).write_text(json.dumps(settings))
    sources = [parse_source((folder / name).as_uri()) for name in ("base", "adapter")]
    return load_inputs(sources[0], sources[1:]).output


def different(place: int = -1) -> bytes:
    """A base whose last tensor, the output layer, has one byte that the embedding does not have."""
    assert [*BASE_SHAPES][-1] == HEAD
    content = bytearray(zeros(BASE_SHAPES))
    content[place] = 1
    return bytes(content)


def test_two_tensors_that_config_json_ties_are_one_only_if_they_are_equal(tmp_path: Path) -> None:
    layout = merged(tmp_path, zeros(BASE_SHAPES), OF_HEAD)
    assert changed(layout) == {EMBEDDING, HEAD}
    assert layout.documents == {}
    layout = merged(tmp_path, different(), OF_HEAD)
    assert changed(layout) == {HEAD}
    assert json.loads(layout.documents["config.json"])["tie_word_embeddings"] is False
    assert changed(merged(tmp_path, zeros(BASE_SHAPES), OF_HEAD, tied=False)) == {HEAD}
    assert merged(tmp_path, different(), ADAPTER_SHAPES).documents == {}


@pytest.mark.parametrize(("family", "tied"), [("gemma2", True), ("llama", False)])
def test_where_config_json_does_not_say_its_class_does(family: str, tied: bool, tmp_path: Path) -> None:
    layout = merged(tmp_path, zeros(BASE_SHAPES), OF_HEAD, tied=None, family=family)
    assert changed(layout) == ({EMBEDDING, HEAD} if tied else {HEAD})
    assert changed(merged(tmp_path, different(), OF_HEAD, tied=None, family=family)) == {HEAD}


def test_rows_of_two_tensors_that_config_json_ties_but_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        merged(tmp_path, different(), ADAPTER_SHAPES | ROWS, trainable_token_indices=[3])
    assert caught.value.message == (
        f'{(tmp_path / "base").as_uri()} holds different tensors "{EMBEDDING}" and "{HEAD}" that its config.json ties, '
        f"so what {(tmp_path / 'adapter').as_uri()}/adapter_model.safetensors means for both cannot be told: set "
        "tie_word_embeddings to false there, or take the second tensor out of the base"
    )
    assert changed(merged(tmp_path, zeros(BASE_SHAPES), ADAPTER_SHAPES | ROWS, trainable_token_indices=[3])) >= {
        EMBEDDING,
        HEAD,
    }
