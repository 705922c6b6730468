"""Folders of a base and an adapter with files missing, added, renamed, emptied, cut or swapped.

Each is refused in a sentence that names a file, or merged to the very weights of the whole folders.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ftm_jobs.companions.base_folder import is_irrelevant, listed
from ftm_jobs.errors import LONGEST_MESSAGE, InvalidInput
from ftm_jobs.merge.artifact import merge_to
from ftm_jobs.merge.inputs import load_inputs
from ftm_jobs.steps.inspect import inspect
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source, parse_uri
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, LLAMA_CONFIG, filled

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NAMES = sorted(BASE_SHAPES)
HALVES = dict(zip(SHARDS, (NAMES[::2], NAMES[1::2]), strict=True))
COMPANIONS = {
    "tokenizer.json": b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "generation_config.json": b"{}",
}
CONFIG = {"config.json": json.dumps(LLAMA_CONFIG).encode()}
WHOLE = {"model.safetensors": filled(BASE_SHAPES)}
INDEX = {"metadata": {}, "weight_map": {name: shard for shard, names in HALVES.items() for name in names}}
SHARDED = {
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    **{shard: filled({name: BASE_SHAPES[name] for name in names}) for shard, names in HALVES.items()},
}
ADAPTER = {
    "adapter_config.json": json.dumps(ADAPTER_CONFIG).encode(),
    "adapter_model.safetensors": filled(ADAPTER_SHAPES),
}
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 1234567\n".encode()
ADDED = (
    "README.md",
    "notes",
    "pytorch_model.bin",
    "adapter_model.bin",
    "training_args.bin",
    "optimizer.pt",
    "model.gguf",
    "consolidated.safetensors",
    "extra.safetensors",
    "model-00003-of-00003.safetensors",
    "adapter_model.safetensors.index.json",
    "spiece.model",
    "merges.txt",
    "chat_template.jinja",
)

Files = dict[str, bytes]


def contents() -> st.SearchStrategy[bytes]:
    return st.sampled_from([b"", POINTER, b"<!doctype html>", b"{}", b"[", b"\0" * 40, b"PK\x03\x04rest"]) | st.binary(
        max_size=40
    )


@st.composite
def changed(draw: st.DrawFn, files: Files) -> Files:
    """Returns the files after one to three changes."""
    left = dict(files)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(left) or ["config.json"]))
        kind = draw(st.sampled_from(["removed", "renamed", "replaced", "cut", "swapped", "added"]))
        if kind == "added":
            left[draw(st.sampled_from(ADDED))] = draw(contents())
        elif kind == "replaced":
            left[name] = draw(contents())
        elif name not in left:
            continue
        elif kind == "removed":
            del left[name]
        elif kind == "renamed":
            left[draw(st.sampled_from([f"{name}.bak", f"old-{name}", name.upper()]))] = left.pop(name)
        elif kind == "cut":
            left[name] = left[name][: draw(st.integers(0, max(0, len(left[name]) - 1)))]
        else:
            other = draw(st.sampled_from(sorted(left)))
            left[name], left[other] = left[other], left[name]
    return left


def written(folder: Path, files: Files) -> Source:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Source(parse_uri(folder.as_uri()))


def merged(out: Path, base: Source, adapter: Source) -> Files:
    """Merges, and returns the weight files."""
    shutil.rmtree(out, ignore_errors=True)
    merge_to(load_inputs(base, [adapter]), FileStore(out))
    return {file.name: file.read_bytes() for file in out.glob("*.safetensors")}


@pytest.mark.parametrize("stored", [WHOLE, SHARDED], ids=["one file", "shards"])
@pytest.mark.parametrize("which", ["base", "adapter"])
def test_a_changed_folder_is_refused_by_a_files_name_or_merged_right(tmp_path: Path, stored: Files, which: str) -> None:
    right = {"base": {**CONFIG, **COMPANIONS, **stored}, "adapter": ADAPTER}
    wanted = merged(tmp_path / "out", *(written(tmp_path / name, files) for name, files in right.items()))

    @given(changed(right[which]))
    @settings(deadline=None, max_examples=40)
    def check(change: Files) -> None:
        base, adapter = (written(tmp_path / name, change if name == which else right[name]) for name in right)
        try:
            report = inspect(base, [adapter])
        except InvalidInput as error:
            event(f"refused: {error.reason}")
            assert_sentence(error.message, tmp_path / which, {*change, *right[which]})
        else:
            event("merged")
            assert merged(tmp_path / "out", base, adapter) == wanted
            read = {*stored, "adapter_config.json", "adapter_model.safetensors"}
            assert_nothing_is_silent(change.keys() - read, tmp_path / "out", which, " ".join(report.notes))

    check()


def assert_nothing_is_silent(names: Collection[str], out: Path, which: str, notes: str) -> None:
    """Each file is in the merged model, or named in a note, or one that no model is loaded with."""
    for name in names:
        kept = (out / name).exists() or is_irrelevant(name) or listed([name]) in notes
        assert kept or (which == "adapter" and not name.endswith(WEIGHTS)), name


def assert_sentence(message: str, folder: Path, names: set[str]) -> None:
    """It is one line that names the folder, and a file of it."""
    assert "\n" not in message
    assert len(message) <= LONGEST_MESSAGE
    assert folder.as_uri() in message
    rest = message.replace(folder.as_uri(), "")
    assert any(name in rest for name in {*names, "config.json", "model.safetensors", "holds no files"}), message
